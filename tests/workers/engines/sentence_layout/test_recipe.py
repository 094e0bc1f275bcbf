"""Every saved layout is served as sentence-transformers computes it, or refused with the part's name."""

import contextlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from sentence_transformers import SentenceTransformer, SparseEncoder
from sentence_transformers.multi_vector_encoder import MultiVectorEncoder

from shared.domain.errors import ConfigError
from shared.domain.models.catalog import Batch, Limits
from tests.conftest import every
from tests.engine_driver import drive
from tests.layered_layouts import TASKED
from tests.refused_layouts import REFUSED
from tests.sentence_layouts import LAYOUTS
from tests.tiny_models import embedding_spec
from workers.engines.base import Work
from workers.engines.embedding.engine import Embedding
from workers.engines.sentence_layout.recipe import read_recipe

TEXTS = [
    "the quick brown fox",
    "fox",
    "  The Quick [PAD] fox\n",
    "jobs queue : " * 9,
    "A brown fox ",
    "the the quick " * 7,
    "",
    "Quick jobs : query the queue",
]


TASKS = {None: "encode", "query": "encode_query", "document": "encode_document"}


def engine(path: Path) -> Embedding:
    made = Embedding(
        embedding_spec(
            path,
            batch=Batch(max_size=16, token_budget=4096),
            limits=Limits(max_prompt_tokens=512),
        )
    )
    made.load()
    return made


def in_full(rows: list[Any], width: int) -> list[torch.Tensor]:
    """Rows of an answer as tensors, sparse ones with their zeros."""
    found = []
    for row in rows:
        if isinstance(row, dict):
            places, values = torch.tensor(row["indices"]).long(), torch.tensor(row["values"])
            found.append(torch.zeros(width).scatter_(0, places, values))
        else:
            found.append(torch.tensor(row))
    return found


@pytest.mark.parametrize("name", TASKED)
def test_a_task_is_served_as_the_library_computes_it(name: str, tmp_path: Path) -> None:
    TASKED[name](tmp_path)
    served = engine(tmp_path)
    kind = json.loads((tmp_path / "config_sentence_transformers.json").read_text())["model_type"]
    types = {"SparseEncoder": SparseEncoder, "MultiVectorEncoder": MultiVectorEncoder}
    model = types.get(kind, SentenceTransformer)(str(tmp_path), device="cpu")

    for task, method in TASKS.items():
        params = {"task": task, "truncate": True}
        output = drive(served, [Work("all", TEXTS, params, seed=0)]).finished("all").output
        encode = getattr(model, method)
        for text, found in zip(
            TEXTS, in_full(output["embeddings"], output["dimensions"]), strict=True
        ):
            options = {"convert_to_sparse_tensor": False} if kind == "SparseEncoder" else {}
            right = torch.as_tensor(encode([text], show_progress_bar=False, **options)[0])
            assert found.shape == right.shape
            assert torch.allclose(found, right, atol=1e-5, rtol=1e-4), (task, text)


def library(path: Path) -> torch.Tensor:
    """Each text alone, short ones first: some models remember the longest text that they have seen."""
    model = SentenceTransformer(str(path), device="cpu", local_files_only=True)
    rows = {
        text: model.encode([text], convert_to_tensor=True, show_progress_bar=False)[0]
        for text in sorted(TEXTS, key=len)
    }
    return torch.stack([rows[text] for text in TEXTS])


def test_at_least_forty_layouts_are_held_against_the_library(
    record_property: Callable[[str, object], None],
) -> None:
    served = len(LAYOUTS) + len(TASKED)
    record_property("layouts", f"{served} served, {len(REFUSED)} refused")

    assert served >= 40 and not LAYOUTS.keys() & (TASKED.keys() | REFUSED.keys())


@pytest.mark.explores
@pytest.mark.parametrize("name", every(2, LAYOUTS))
def test_a_layout_is_served_as_the_library_computes_it(name: str, tmp_path: Path) -> None:
    LAYOUTS[name](tmp_path)
    served = engine(tmp_path)

    ran = drive(served, [Work("all", TEXTS, {}, seed=0)])
    together = torch.tensor(ran.finished("all").output["embeddings"])
    alone = []
    for text in TEXTS:
        ran = drive(served, [Work("one", text, {}, seed=0)])
        alone += ran.finished("one").output["embeddings"]

    right = library(tmp_path)
    for found in (together, torch.tensor(alone)):
        assert found.shape == right.shape
        empty = right.norm(dim=1) == 0
        assert (torch.cosine_similarity(found, right) > 0.9999).logical_or(empty).all()
        assert found.norm(dim=1).tolist() == pytest.approx(right.norm(dim=1).tolist(), rel=1e-4)


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_served_is_refused_by_name(name: str, tmp_path: Path) -> None:
    make, complaint = REFUSED[name]
    make(tmp_path)

    with pytest.raises(ConfigError, match=complaint):
        Embedding(embedding_spec(tmp_path)).load()


JUNK = [None, [], {}, [[]], "x", -1, True, {"x": {}}, {"text": []}, {"torch": []}]
MESSAGES = [None, {"method": "forward", "method_output_name": "last_hidden_state", "format": []}]


@pytest.mark.parametrize(
    ("file", "keys"),
    [
        ("modules.json", []),
        ("1_Pooling/config.json", ["pooling_mode", "include_prompt"]),
        (
            "config_sentence_transformers.json",
            ["prompts", "default_prompt_name", "truncate_dim", "requirements", "model_type"],
        ),
        (
            "sentence_bert_config.json",
            [
                "max_seq_length",
                "do_lower_case",
                "transformer_task",
                "modality_config",
                "module_output_name",
                "processing_kwargs",
                "model_args",
                "tokenizer_args",
            ],
        ),
    ],
)
def test_whatever_stands_in_a_file_is_read_or_refused(
    file: str, keys: list[str], tmp_path: Path
) -> None:
    LAYOUTS["lower_case"](tmp_path)
    whole = (tmp_path / file).read_text() if (tmp_path / file).exists() else "{}"
    contents = [*JUNK, *({"modality_config": {"message": part}} for part in MESSAGES)]
    contents += [json.loads(whole) | {key: junk} for key in keys for junk in JUNK]

    for content in contents:
        (tmp_path / file).write_text(json.dumps(content))
        with contextlib.suppress(ConfigError):  # anything else fails the test
            assert read_recipe(tmp_path, "models.m.path").routes[""].pooling
