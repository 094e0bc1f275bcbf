"""With look-up decoding a text is what it is without, in fewer steps."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from msgspec.structs import replace

from bench.engines.copying import save_copier
from shared.domain.models.catalog import Batch, Limits, PromptLookup
from tests.conftest import by_turns
from tests.engine_driver import Ran, drive, resumed
from tests.tiny_adapters import save_adapter, with_adapters
from tests.tiny_models import byte_level_tokenizer, save_causal, text_spec
from tests.workers.engines.text_generation.speculation.conftest import FREE
from workers.engines.base import Finished, Work
from workers.engines.packed_attention import Unpackable
from workers.engines.text_generation import way as way_module
from workers.engines.text_generation.engine import TextGeneration
from workers.engines.text_generation.sampling import sampler
from workers.engines.text_generation.speculation import setup
from workers.engines.text_generation.speculation.costs import StepCosts

DTYPES = ["float32", "bfloat16"]
PROMPTS = [
    "The quick brown fox jumps over the lazy dog. The quick",
    "Viktor quer über den großen Sylter Deich, jagen Viktor quer",
    "naïve café! 🎉 いろは naïve café! 🎉",
]
NEW = 48
PARAMS: list[dict[str, Any]] = [
    {},
    {"temperature": 0.9},
    {"temperature": 0.6, "top_p": 0.9, "repetition_penalty": 1.02, "frequency_penalty": 0.05},
    {"temperature": 0.9, "top_k": 9, "logprobs": True, "top_logprobs": 2},
    {"stop": ["lazy", "quer", "いろ"]},
    {
        "stop": ["lazy", "quer", "いろ"],
        "min_tokens": 20,
        "bad_words": ["fox"],
        "logit_bias": {"99": 2.0},
    },
]


@pytest.fixture(scope="module")
def copier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """It says what followed the last time, and something else now and then."""
    tokenizer = byte_level_tokenizer()
    return save_copier(tmp_path_factory.mktemp("copier"), tokenizer, vocabulary=400)


@pytest.fixture(scope="module", params=DTYPES)
def pair(
    request: pytest.FixtureRequest, copier: Path
) -> Iterator[tuple[TextGeneration, TextGeneration]]:
    """An engine without and one with look-up decoding."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(setup, "measure", lambda *_: FREE)
        yield loaded(copier, request.param, "none"), loaded(copier, request.param, PromptLookup())


def loaded(
    path: Path, dtype: str, speculation: PromptLookup | str, **options: Any
) -> TextGeneration:
    limits = Limits(max_prompt_tokens=160, max_new_tokens=64)
    fields = {"batch": Batch(max_size=4, token_budget=40), "limits": limits} | options
    engine = TextGeneration(text_spec(path, dtype=dtype, speculation=speculation, **fields))
    engine.load()
    return engine


def works(**params: Any) -> list[Work]:
    return [
        Work(f"job-{n}", prompt, {"max_new_tokens": NEW} | params, seed=n)
        for n, prompt in enumerate(PROMPTS)
    ]


def assert_same(found: Finished, right: Finished, *, bitwise: bool) -> None:
    for name in ("text", "finish_reason"):
        assert found.output[name] == right.output[name]
    scores, wanted = found.output.get("logprobs", []), right.output.get("logprobs", [])
    if bitwise:
        assert scores == wanted
    assert [s["token_id"] for s in scores] == [s["token_id"] for s in wanted]
    for score, other in zip(scores, wanted, strict=True):
        assert score["logprob"] == pytest.approx(other["logprob"], abs=1e-4)
    for name in ("prompt_tokens", "completion_tokens", "total_tokens"):
        assert found.usage[name] == right.usage[name]


def drafts(ran: Ran) -> tuple[int, int]:
    """How many tokens were tried, and how many of them were right."""
    usages = [outcome.usage for outcome in ran.outcomes.values() if isinstance(outcome, Finished)]
    drafted = sum(usage.get("drafted_tokens", 0) for usage in usages)
    return drafted, sum(usage.get("accepted_tokens", 0) for usage in usages)


@pytest.mark.explores
@pytest.mark.parametrize(("params", "pair"), by_turns(PARAMS, DTYPES), indirect=["pair"], ids=str)
def test_texts_are_what_they_are_without(
    pair: tuple[TextGeneration, TextGeneration], params: dict[str, Any]
) -> None:
    without, with_lookup = pair
    bitwise = with_lookup._spec.dtype != "float32"
    right = drive(without, works(**params))

    ran = drive(with_lookup, works(**params))

    for n in range(len(PROMPTS)):
        assert_same(ran.finished(f"job-{n}"), right.finished(f"job-{n}"), bitwise=bitwise)
        assert ran.streamed(f"job-{n}") == right.text(f"job-{n}")
    drafted, accepted = drafts(ran)
    assert drafts(right) == (0, 0)
    assert 0 < accepted <= drafted
    if "temperature" in params:
        assert accepted < drafted
    if not params:
        assert len(ran.steps) < 0.5 * len(right.steps)


@pytest.mark.parametrize(
    "params", [{}, {"temperature": 0.9, "logprobs": True, "top_logprobs": 1}], ids=str
)
def test_a_resumed_text_is_the_undisturbed_one(
    pair: tuple[TextGeneration, TextGeneration], params: dict[str, Any]
) -> None:
    without, with_lookup = pair
    work = works(**params)[0]
    right = drive(without, [work]).finished(work.id)
    pieces = drive(with_lookup, [work]).pieces[work.id]

    for cut in range(0, len(pieces) + 1, 11):
        ran = drive(with_lookup, [resumed(work, pieces[:cut]), *works(**params)[1:]])
        assert_same(ran.finished(work.id), right, bitwise=False)
        assert "".join(p.text for p in pieces[:cut]) + ran.streamed(work.id) == right.output["text"]


def test_several_texts_of_a_prompt_are_what_they_are_without(
    pair: tuple[TextGeneration, TextGeneration],
) -> None:
    without, with_lookup = pair
    asked = works(n=3, temperature=0.9, min_tokens=6)[:2]

    ran, right = drive(with_lookup, asked), drive(without, asked)

    for work in asked:
        assert ran.finished(work.id).output == right.finished(work.id).output
    assert drafts(ran)[1] > 0


def test_an_end_token_within_a_draft_ends_the_text(
    pair: tuple[TextGeneration, TextGeneration],
) -> None:
    without, with_lookup = pair
    [work, *_] = works()
    ids = [t for piece in drive(without, [work]).pieces[work.id] for t in piece.token_ids]
    last = max(ids.index(token) for token in set(ids))
    ending = replace(work, params=work.params | {"stop_token_ids": [ids[last]]})
    right = drive(without, [ending]).finished(work.id)

    found = drive(with_lookup, [ending]).finished(work.id)

    assert_same(found, right, bitwise=True)
    assert found.output["finish_reason"] == "stop"


def test_a_text_has_as_many_tokens_as_it_was_asked_for(
    pair: tuple[TextGeneration, TextGeneration],
) -> None:
    asked = {f"job-{length}": length for length in (1, 2, 3, 18, 19)}
    first = works()[0]

    found = drive(
        pair[1], [replace(first, id=i, params={"max_new_tokens": n}) for i, n in asked.items()]
    )

    for job_id, length in asked.items():
        finished = found.finished(job_id)
        assert finished.usage["completion_tokens"] == length
        assert finished.output["finish_reason"] == "length"


def test_a_job_may_do_without(pair: tuple[TextGeneration, TextGeneration]) -> None:
    ran = drive(pair[1], works(speculation=False))

    assert drafts(ran) == (0, 0)
    assert all("drafted_tokens" not in ran.finished(f"job-{n}").usage for n in range(len(PROMPTS)))


def test_a_step_never_exceeds_its_budget(
    pair: tuple[TextGeneration, TextGeneration], monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = pair[1]
    run = engine._runner.run
    sizes: list[tuple[int, int]] = []

    def watched(chunks: Any) -> Any:
        sizes.append((sum(c.length for c in chunks), sum(len(c.draft) for c in chunks)))
        return run(chunks)

    monkeypatch.setattr(engine._runner, "run", watched)
    drive(engine, works())

    assert max(tokens for tokens, _ in sizes) <= engine._scheduler.budget == 40
    assert max(drafted for _, drafted in sizes) > 15


@pytest.mark.explores
@pytest.mark.parametrize(
    ("place", "pair"), by_turns(["model", "sampler"], DTYPES), indirect=["pair"]
)
def test_a_step_with_drafts_that_fails_has_changed_nothing(
    pair: tuple[TextGeneration, TextGeneration], place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    without, engine = pair
    right = drive(without, works(temperature=0.9))
    owner, name = (engine._runner, "run") if place == "model" else (sampler, "choose")
    call, calls = getattr(owner, name), 0

    def faulty(*arguments: Any) -> Any:
        nonlocal calls
        calls += 1
        found = call(*arguments)
        if calls % 3 == 0:
            raise RuntimeError("a device broke")
        return found

    monkeypatch.setattr(owner, name, faulty)
    for work in works(temperature=0.9):
        engine.admit(work)
    ran, failures = Ran(), 0
    while engine.pending():
        try:
            ran.take(engine.step())
        except RuntimeError:
            failures += 1

    assert failures > 5
    for work in works():
        assert ran.text(work.id) == ran.streamed(work.id) == right.text(work.id)


def test_numbers_that_are_none_behind_a_draft_change_no_text(
    pair: tuple[TextGeneration, TextGeneration], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither through the draft's logits nor through what its tokens leave in the slot."""
    without, engine = pair
    right = drive(without, works())
    run, cache = engine._runner.run, engine._runner._cache  # type: ignore[attr-defined]
    poisoned = 0

    def broken(chunks: Any) -> Any:
        nonlocal poisoned
        rows, logits = run(chunks)
        for place, row in enumerate(rows):
            first = len(row.sequence.tokens)
            if row.position == first and len(row.draft) > 1:
                logits[place] = float("nan")
                for tensor in (*cache.keys, *cache.values):
                    tensor[row.sequence.slot, :, first : first + len(row.draft)] = float("nan")
                poisoned += 1
        return rows, logits

    monkeypatch.setattr(engine._runner, "run", broken)
    ran = drive(engine, works())

    assert poisoned > 5
    for work in works():
        assert ran.text(work.id) == right.text(work.id)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_logits_behind_a_draft_are_those_of_single_tokens_to_the_last_bit(
    llama: Path, dtype: str
) -> None:
    engine = loaded(llama, dtype, "none")

    with torch.inference_mode():
        assert setup.same_bits(engine._runner)


@pytest.mark.parametrize("adapter", ["", "french"])
def test_float32_texts_with_drafts_are_the_same_to_the_last_bit(
    copier: Path, tmp_path: Path, adapter: str, free_steps: None
) -> None:
    french = save_adapter(copier, tmp_path, target_modules=["o_proj"])
    engine = TextGeneration(
        with_adapters(text_spec(copier, speculation=PromptLookup()), french=french)
    )
    engine.load()
    params = {"temperature": 0.9, "logprobs": True, "top_logprobs": 3}
    drafted, plain = (
        [replace(work, adapter=adapter) for work in works(**params, speculation=wanted)]
        for wanted in (True, False)
    )

    ran, right = drive(engine, drafted), drive(engine, plain[:1])

    assert drafts(ran)[1] > 0 == drafts(right)[1]
    assert_same(ran.finished("job-0"), right.finished("job-0"), bitwise=True)


def test_where_rows_cannot_be_exact_logits_are_those_of_single_tokens_to_rounding(
    tmp_path: Path, free_steps: None
) -> None:
    # Its products are no linear layers.
    sizes = {"n_embd": 64, "n_layer": 2, "n_head": 4, "vocab_size": 400, "n_positions": 256}
    path = save_causal(tmp_path, "GPT2Config", **sizes)
    engine = TextGeneration(text_spec(path, speculation=PromptLookup()))

    assert engine.load().details["speculation"]["exact"] == "to rounding"
    assert drafts(drive(engine, works()))[0] >= 0


def test_what_a_draft_got_wrong_is_not_reused_by_another_text(
    pair: tuple[TextGeneration, TextGeneration],
) -> None:
    without, engine = pair
    [first, *_] = works(temperature=0.9, max_new_tokens=40)
    text = drive(engine, [first]).text(first.id)
    second = Work("next", first.content + text, {"max_new_tokens": 20}, 1)

    again = drive(engine, [second]).finished("next")

    assert again.usage["cached_tokens"] >= 16
    assert again.output == drive(without, [second]).finished("next").output


def test_the_model_says_whether_texts_are_drafted_and_why(
    llama: Path, monkeypatch: pytest.MonkeyPatch, free_steps: None
) -> None:
    def said(dtype: str, speculation: PromptLookup | str) -> dict[str, Any]:
        engine = TextGeneration(text_spec(llama, dtype=dtype, speculation=speculation))
        details: dict[str, Any] = engine.load().details["speculation"]
        return details

    assert said("float32", "none") == {"kind": "none", "reason": "the catalogue says so"}
    assert "last bits" in said("float32", "auto")["reason"]
    asked = said("float32", PromptLookup(ngram=2, longest=7))
    assert (asked["ngram"], asked["longest"], asked["exact"]) == (2, 7, "bitwise")
    assert said("bfloat16", "auto")["exact"] == "bitwise"
    monkeypatch.setattr(setup, "measure", lambda *_: StepCosts({1: 1.0}, {2: 2.0, 16: 16.0}))
    assert (
        said("bfloat16", "auto")["reason"] == "a step of 16 tokens costs 16.0 times one of a token"
    )

    def unpackable(*_: Any) -> Any:
        raise Unpackable("it was not meant to be")

    monkeypatch.setattr(way_module, "packed_runner", unpackable)
    assert (
        said("float32", PromptLookup())["reason"]
        == "it needs a packed model, and this one runs stacked"
    )
