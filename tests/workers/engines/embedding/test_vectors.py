"""What a job may ask of its vectors: cut, normalized, in base64, of texts that are cut."""

import base64
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer

from shared.domain.errors import InputRefused
from shared.domain.models.catalog import Batch, Limits
from tests.engine_driver import drive
from tests.layered_layouts import TASKED, dense_as_sentence_t5
from tests.sentence_layouts import LAYOUTS, save_library, words
from tests.tiny_models import embedding_spec
from workers.engines.base import Failed, Work
from workers.engines.embedding.engine import Embedding

TEXTS = ["the quick brown fox", "jobs queue : " * 3, "A"]
LONG = "the quick brown fox jobs queue query passage A : " * 12


def served(path: Path, **options: Any) -> Embedding:
    engine = Embedding(embedding_spec(path, batch=Batch(max_size=8, token_budget=512), **options))
    engine.load()
    return engine


def output(engine: Embedding, content: Any, **params: Any) -> Any:
    return drive(engine, [Work("a", content, params, seed=0)]).finished("a").output


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("dense")
    dense_as_sentence_t5(path)
    return path


@pytest.fixture(scope="module")
def dense(folder: Path) -> Embedding:
    return served(folder)


@pytest.fixture(scope="module")
def late(tmp_path_factory: pytest.TempPathFactory) -> Embedding:
    path = tmp_path_factory.mktemp("late")
    TASKED["colbert"](path)
    return served(path)


def test_dimensions_cut_a_vector_and_normalize_it_anew(dense: Embedding, folder: Path) -> None:
    found = output(dense, TEXTS, dimensions=5)

    model = SentenceTransformer(str(folder), device="cpu")
    right = model.encode(TEXTS, truncate_dim=5, normalize_embeddings=True)
    assert found["dimensions"] == 5
    assert np.allclose(found["embeddings"], right, atol=1e-5)
    raw = torch.tensor(output(dense, TEXTS, dimensions=5, normalize=False)["embeddings"])
    whole = torch.tensor(output(dense, TEXTS, normalize=False)["embeddings"])
    assert torch.equal(raw, whole[:, :5])


def test_more_dimensions_than_the_model_has_are_refused(dense: Embedding) -> None:
    with pytest.raises(InputRefused, match="17 is more than the 16"):
        dense.admit(Work("a", "fox", {"dimensions": 17}, seed=0))


def test_base64_holds_the_same_numbers(dense: Embedding) -> None:
    plain, packed = output(dense, TEXTS), output(dense, TEXTS, encoding="base64")

    vectors = [np.frombuffer(base64.b64decode(row), "<f4") for row in packed["embeddings"]]
    assert packed["encoding"] == "base64" and packed["dimensions"] == plain["dimensions"] == 16
    assert np.array_equal(np.stack(vectors), np.float32(plain["embeddings"]))


def test_a_vector_for_each_token_comes_as_float16(late: Embedding) -> None:
    plain, packed = output(late, TEXTS), output(late, TEXTS, encoding="base64")

    for numbers, row in zip(plain["embeddings"], packed["embeddings"], strict=True):
        found = np.frombuffer(base64.b64decode(row), "<f2").reshape(-1, plain["dimensions"])
        assert np.array_equal(found, np.float32(numbers).astype("<f2"))


def test_a_sparse_vector_in_base64(tmp_path: Path) -> None:
    TASKED["splade_max"](tmp_path)
    engine = served(tmp_path)

    [plain] = output(engine, "fox")["embeddings"]
    [packed] = output(engine, "fox", encoding="base64")["embeddings"]

    places = np.frombuffer(base64.b64decode(packed["indices"]), "<u4")
    values = np.frombuffer(base64.b64decode(packed["values"]), "<f4")
    assert places.tolist() == plain["indices"] and 0 < len(places) < 17
    assert np.array_equal(values, np.float32(plain["values"]))
    with pytest.raises(InputRefused, match="sparse vectors, which are not cut"):
        engine.admit(Work("a", "fox", {"dimensions": 2}, seed=0))


@pytest.mark.parametrize("side", [None, "left", "right"])
def test_a_text_that_is_cut_is_what_the_library_makes_of_it(
    tmp_path: Path, side: str | None
) -> None:
    LAYOUTS["cls_pooling"](tmp_path)
    own = words(truncation_side="left", model_max_length=20)
    own.save_pretrained(tmp_path)
    engine = served(tmp_path)

    found = output(engine, ["fox", LONG], truncate=True if side is None else side)

    model = SentenceTransformer(str(tmp_path), device="cpu")
    model.tokenizer.truncation_side = side or "left"
    assert np.allclose(found["embeddings"], model.encode(["fox", LONG]), atol=1e-5)


def test_a_text_that_is_too_long_is_refused_with_the_remedy(dense: Embedding) -> None:
    with pytest.raises(InputRefused, match=r"Text 1 has .* takes 64.*params\.truncate") as refusal:
        dense.admit(Work("a", ["fox", LONG], {}, seed=0))

    assert refusal.value.code == "prompt_too_long"
    assert len(output(dense, ["fox", LONG], truncate=True)["embeddings"]) == 2


@pytest.mark.parametrize("name", ["typed", "late", "static"])
def test_token_ids_are_taken_as_they_stand(name: str, tmp_path: Path, late: Embedding) -> None:
    if name == "typed":
        LAYOUTS["cls_pooling"](tmp_path)
        words(model_max_length=20).save_pretrained(tmp_path)
    elif name == "static":
        LAYOUTS["static"](tmp_path)
    engine = late if name == "late" else served(tmp_path)
    reader = engine._model.routes[""].reader
    ids = [text.ids for text in reader.read(TEXTS)]

    assert output(engine, ids) == output(engine, TEXTS)
    assert output(engine, ids[0]) == output(engine, TEXTS[0])


def test_token_ids_that_are_too_many_or_not_there_are_refused(
    dense: Embedding, folder: Path
) -> None:
    with pytest.raises(InputRefused, match=r"Text 1 has 65 tokens; .* params\.truncate") as refusal:
        dense.admit(Work("a", [[1], [2] * 65], {}, seed=0))
    assert refusal.value.code == "prompt_too_long"
    cut, right = (output(dense, ids, truncate="right") for ids in ([2, 3] * 40, [2, 3] * 32))
    assert cut == right
    assert output(dense, [2, *([3] * 64)], truncate="left") == output(dense, [3] * 64)
    with pytest.raises(InputRefused, match="Text 0 has tokens outside"):
        dense.admit(Work("a", [10**6], {}, seed=0))


@pytest.mark.parametrize("name", ["decoder_with_a_flat_chat_template"])
def test_a_chat_that_is_cut_keeps_the_templates_end(name: str, tmp_path: Path) -> None:
    LAYOUTS[name](tmp_path)
    engine = served(tmp_path, limits=Limits(max_prompt_tokens=512))

    found = output(engine, ["fox", LONG], truncate=True)

    model = SentenceTransformer(str(tmp_path), device="cpu")
    assert np.allclose(found["embeddings"], model.encode(["fox", LONG]), atol=1e-5)


def test_a_prompt_of_the_jobs_own(tmp_path: Path) -> None:
    save_library(tmp_path, prompts={"q": "query :"}, default_prompt_name="q")
    engine = served(tmp_path)

    found = output(engine, TEXTS, prompt="A passage : ")

    model = SentenceTransformer(str(tmp_path), device="cpu")
    assert np.allclose(found["embeddings"], model.encode(TEXTS, prompt="A passage : "), atol=1e-5)


def test_a_task_that_no_route_is_for_is_refused(tmp_path: Path) -> None:
    TASKED["router_of_a_static_and_a_dense_way"](tmp_path)
    engine = served(tmp_path)

    with pytest.raises(InputRefused, match="no way for 'summary'; it has: query, document"):
        engine.admit(Work("a", "fox", {"task": "summary"}, seed=0))


def test_texts_of_two_routes_share_a_step(tmp_path: Path) -> None:
    TASKED["router_of_a_static_and_a_dense_way"](tmp_path)
    engine = served(tmp_path)
    works = [
        Work(f"{task}-{n}", text, {"task": task}, seed=0)
        for n, text in enumerate(TEXTS)
        for task in ("query", "document")
    ]
    alone = {work.id: drive(engine, [work]).finished(work.id).output for work in works}

    ran = drive(engine, works)

    assert len(ran.steps) == 1
    for work in works:
        found = ran.finished(work.id).output["embeddings"]
        assert np.allclose(found, alone[work.id]["embeddings"], atol=1e-6)


def test_in_bfloat16_a_vector_does_not_depend_on_its_company(folder: Path) -> None:
    engine = served(folder, dtype="bfloat16")
    texts = [*TEXTS, LONG[:80], "fox", "the the"]
    alone = [output(engine, text)["embeddings"][0] for text in texts]

    assert output(engine, texts)["embeddings"] == alone


def test_a_layer_that_gives_no_number_ends_one_job(
    dense: Embedding, monkeypatch: pytest.MonkeyPatch
) -> None:
    [layer] = dense._model.routes[""].recipe.layers
    activate = layer.activate

    def poisoned(vectors: torch.Tensor) -> torch.Tensor:
        found = activate(vectors)
        found[1] = float("inf")
        return found

    monkeypatch.setattr(layer, "activate", poisoned)
    ran = drive(dense, [Work(str(n), text, {}, seed=0) for n, text in enumerate(TEXTS)])

    assert [isinstance(ran.outcomes[str(n)], Failed) for n in range(3)] == [False, True, False]
