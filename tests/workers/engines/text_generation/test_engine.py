"""Texts of the engine: alone and in company, whole and resumed, stopped, scored and refused."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from shared.domain.errors import ConfigError
from shared.domain.models.catalog import Batch, Limits
from tests.conftest import by_turns
from tests.engine_driver import Ran, drive, resumed
from tests.tiny_models import (
    LLAMA,
    WAYS,
    byte_level_tokenizer,
    save_causal,
    sentencepiece_tokenizer,
    text_spec,
)
from tests.workers.engines.text_generation.texts import PROMPTS, loaded, refusal, works
from workers.engines.base import Work
from workers.engines.text_generation.engine import TextGeneration

RULES: list[dict[str, Any]] = [
    {"presence_penalty": 1.0, "frequency_penalty": 0.7},
    {"temperature": 1.0, "min_p": 0.05, "frequency_penalty": 1.5, "repetition_penalty": 1.2},
    {"temperature": 0.8, "logprobs": True, "top_logprobs": 3},
    {"logprobs": True, "stop": ["e"]},
]


@pytest.mark.parametrize("params", [{}, {"temperature": 0.9, "top_p": 0.95}])
def test_a_job_in_a_batch_of_16_says_what_it_says_alone(
    llama: Path, params: dict[str, Any]
) -> None:
    engine = loaded(llama, batch=Batch(max_size=16, token_budget=64))

    jobs = works(16, max_new_tokens=10, **params)

    together = drive(engine, jobs)

    assert max(step.batch_size for step in together.steps) == 16
    for work in jobs:
        assert drive(engine, [work]).text(work.id) == together.text(work.id)
        assert together.finished(work.id).usage["batch_size"] == 16


@pytest.mark.parametrize("budget", [1, 7, 64, 1000])
def test_text_does_not_depend_on_how_prompts_are_cut(llama: Path, budget: int) -> None:
    engine = loaded(llama, batch=Batch(max_size=3, token_budget=budget))
    usual = drive(loaded(llama), works(7))

    ran = drive(engine, works(7))

    assert [ran.text(f"job-{n}") for n in range(7)] == [usual.text(f"job-{n}") for n in range(7)]


def test_a_piece_is_the_text_of_its_tokens(engine: TextGeneration) -> None:
    ran = drive(engine, works(6, temperature=1.0))

    for n in range(6):
        ids = [token for piece in ran.pieces[f"job-{n}"] for token in piece.token_ids]
        decoded = byte_level_tokenizer().decode(
            ids, skip_special_tokens=True, clean_up_tokenization_spaces=False
        )
        assert decoded.rstrip("\ufffd") == ran.text(f"job-{n}")


def test_usage_counts_tokens(llama: Path) -> None:
    usage = drive(loaded(llama), works(1)).finished("job-0").usage

    prompt = len(byte_level_tokenizer()(PROMPTS[0])["input_ids"])
    assert usage == {
        "prompt_tokens": prompt,
        "completion_tokens": 20,
        "total_tokens": prompt + 20,
        "cached_tokens": 0,
        "batch_size": 1,
    }


def test_a_stop_string_cuts_the_text_and_is_never_shown(engine: TextGeneration) -> None:
    [work] = works(1)
    full = drive(engine, [work]).text(work.id)
    stop = full[len(full) // 2 :][:3]

    ran = drive(engine, [replace(work, params={"max_new_tokens": 20, "stop": ["never", stop]})])

    assert ran.finished(work.id).output == {
        "text": full[: full.index(stop)],
        "finish_reason": "stop",
    }
    assert ran.streamed(work.id) == full[: full.index(stop)]


@pytest.mark.parametrize("as_list", [False, True])
def test_end_tokens_come_from_the_generation_config(
    llama: Path, tmp_path: Path, as_list: bool
) -> None:
    [work] = works(1, temperature=1.0)
    pieces = drive(loaded(llama), [work]).pieces[work.id]
    ids = [token for piece in pieces for token in piece.token_ids]
    end = ids[5]
    path = save_causal(tmp_path, **LLAMA)
    config = path / "generation_config.json"
    config.write_text(f'{{"eos_token_id": {[399, end] if as_list else end}}}')

    finished = drive(loaded(path), [work]).finished(work.id)

    assert finished.output["finish_reason"] == "stop"
    assert finished.usage["completion_tokens"] == ids.index(end)


@pytest.mark.explores
@pytest.mark.parametrize(("params", "kind"), by_turns(RULES, list(WAYS)))
def test_rules_hold_in_company_and_over_a_resumed_attempt(
    running: Callable[[str], TextGeneration], kind: str, params: dict[str, Any]
) -> None:
    engine = running(kind)
    others = works(3, temperature=1.0, top_p=0.9, logprobs=True)
    work = Work("x", PROMPTS[2], {"max_new_tokens": 20} | params, seed=5)
    alone = drive(engine, [work])

    assert_same(drive(engine, [*others, work]), alone)
    pieces = alone.pieces.get("x", [])
    for cut in range(0, len(pieces) + 1, 7):
        assert_same(drive(engine, [others[0], resumed(work, pieces[:cut])]), alone)
    assert_same(drive(engine, [resumed(work, pieces)]), alone)


def assert_same(ran: Ran, expected: Ran) -> None:
    """The same text of job x, and log-probabilities that differ by no more than their rounding."""
    found, right = ran.finished("x"), expected.finished("x")
    scores, right_scores = found.output.pop("logprobs", []), right.output.get("logprobs", [])
    assert found.output == {k: v for k, v in right.output.items() if k != "logprobs"}
    assert len(scores) == len(right_scores)
    for score, wanted in zip(scores, right_scores, strict=True):
        assert score["token_id"] == wanted["token_id"]
        assert score["logprob"] == pytest.approx(wanted["logprob"], abs=1e-4)
        assert [t["token_id"] for t in score["top"]] == [t["token_id"] for t in wanted["top"]]


def test_logprobs_have_an_entry_for_each_token_of_the_completion(engine: TextGeneration) -> None:
    [work] = works(1, temperature=1.0, logprobs=True, top_logprobs=2)

    ran = drive(engine, [work])

    finished = ran.finished(work.id)
    said = [token for piece in ran.pieces[work.id] for token in piece.token_ids]
    entries = finished.output["logprobs"]
    assert [entry["token_id"] for entry in entries][: len(said)] == said
    assert len(entries) == finished.usage["completion_tokens"] == 20
    for entry in entries:
        assert entry["token"] == byte_level_tokenizer().decode([entry["token_id"]])
        best, second = entry["top"]
        assert best["logprob"] >= second["logprob"]
        assert entry["logprob"] <= best["logprob"] <= 0
    assert "logprobs" not in drive(engine, works(1)).finished(work.id).output


def test_a_long_text_is_scored_again_in_bounded_steps(llama: Path) -> None:
    limits = Limits(max_prompt_tokens=96, max_new_tokens=100)
    engine = loaded(llama, batch=Batch(max_size=2, token_budget=200), limits=limits)
    rules = {"max_new_tokens": 100, "logprobs": True}
    work = Work("x", "a", rules, seed=0)
    whole = drive(engine, [work])
    run, largest = engine._runner.run, 0

    def watched(chunks: Any) -> Any:
        nonlocal largest
        rows, logits = run(chunks)
        largest = max(largest, len(rows))
        return rows, logits

    engine._runner.run = watched  # type: ignore[method-assign]
    again = drive(engine, [resumed(work, whole.pieces["x"][:90])])

    assert_same(again, whole)
    assert 1 < largest <= 64


def test_tokens_that_the_job_names_end_its_text(engine: TextGeneration) -> None:
    [work] = works(1, temperature=1.0, logprobs=True)
    ids = [
        entry["token_id"] for entry in drive(engine, [work]).finished(work.id).output["logprobs"]
    ]
    end = ids[7]

    ran = drive(engine, [replace(work, params=work.params | {"stop_token_ids": [end, 399]})])

    finished = ran.finished(work.id)
    assert finished.output["finish_reason"] == "stop"
    assert finished.usage["completion_tokens"] == ids.index(end)
    assert [entry["token_id"] for entry in finished.output["logprobs"]] == ids[: ids.index(end)]


def test_a_text_that_had_ended_already_takes_no_step(engine: TextGeneration) -> None:
    [work] = works(1)
    said = [t for piece in drive(engine, [work]).pieces[work.id] for t in piece.token_ids]
    work = replace(work, params={"max_new_tokens": len(said)})
    whole = drive(engine, [work])
    again = resumed(work, whole.pieces[work.id])

    ran = drive(engine, [again])

    assert ran.finished(work.id).output == whole.finished(work.id).output
    assert [step.batch_size for step in ran.steps] == [0]


def test_a_stop_string_found_before_a_crash_is_found_after_it(engine: TextGeneration) -> None:
    [work] = works(1)
    full = drive(engine, [work]).text(work.id)

    for start in range(0, len(full) - 3, 8):
        stopping = replace(work, params={"max_new_tokens": 20, "stop": [full[start : start + 3]]})
        whole = drive(engine, [stopping])
        pieces = whole.pieces.get(work.id, [])
        for cut in range(len(pieces) + 1):
            ran = drive(engine, [resumed(stopping, pieces[:cut])])
            assert ran.finished(work.id).output == whole.finished(work.id).output


def test_canceling_a_text_that_had_ended_already(engine: TextGeneration) -> None:
    [work] = works(1)
    engine.admit(resumed(work, drive(engine, [work]).pieces[work.id]))

    engine.cancel(work.id)

    assert engine.pending() == 0
    assert engine.step().outcomes == []


def test_a_prompt_over_the_limit_is_refused_with_both_numbers(engine: TextGeneration) -> None:
    error = refusal(engine, "xyz" * 50)

    assert error.code == "prompt_too_long"
    assert "150 tokens" in error.detail
    assert "96" in error.detail


def test_more_tokens_than_the_context_holds_are_refused(tmp_path: Path) -> None:
    path = save_causal(tmp_path, **LLAMA | {"max_position_embeddings": 64})
    engine = loaded(path)

    assert "context of 64" in refusal(engine, "x" * 40, max_new_tokens=30).detail
    assert drive(engine, [Work("x", "x" * 40, {"max_new_tokens": 24}, 0)]).finished("x")


def test_without_max_new_tokens_a_text_may_have_what_the_prompt_leaves(tmp_path: Path) -> None:
    path = save_causal(tmp_path, **LLAMA | {"max_position_embeddings": 64})
    engine = loaded(path)

    for prompt, new in ((1, 63), (40, 24), (63, 1)):
        usage = drive(engine, [Work("x", "x" * prompt, {}, 0)]).finished("x").usage
        assert (usage["prompt_tokens"], usage["completion_tokens"]) == (prompt, new)
    assert refusal(engine, "x" * 64).code == "prompt_too_long"
    assert (
        drive(loaded(path, limits=Limits(max_new_tokens=5)), [Work("x", "x", {}, 0)])
        .finished("x")
        .usage["completion_tokens"]
        == 5
    )


def test_what_the_model_cannot_take_is_refused(engine: TextGeneration) -> None:
    assert "empty" in refusal(engine, "").detail
    assert "string" in refusal(engine, 7).detail
    assert "string" in refusal(engine, {"text": "x"}).detail
    assert "chat template" in refusal(engine, {"messages": []}).detail
    assert "max_new_tokens" in refusal(engine, "x", max_new_tokens=65).detail
    assert "stop_token_ids" in refusal(engine, "x", stop_token_ids=[400]).detail


def test_a_model_with_a_first_token_takes_an_empty_prompt(tmp_path: Path) -> None:
    engine = loaded(save_causal(tmp_path, tokenizer=sentencepiece_tokenizer(), **LLAMA))

    ran = drive(engine, [Work("x", "", {"max_new_tokens": 30, "temperature": 1.0}, 0)])

    assert ran.finished("x").usage["prompt_tokens"] == 1
    assert ran.streamed("x") == ran.text("x")


def test_tokens_outside_the_vocabulary_are_refused(tmp_path: Path) -> None:
    engine = loaded(save_causal(tmp_path, **LLAMA | {"vocab_size": 200}))

    assert "vocabulary of 200" in refusal(engine, "The quick brown fox jumps").detail


def test_what_the_engine_says_of_itself(llama: Path) -> None:
    info = TextGeneration(text_spec(llama)).load()

    assert info.dtype == "float32"
    assert info.device == "cpu"
    assert info.capacity == 5
    assert info.details["speculation"]["kind"] == "none"
    assert {name: said for name, said in info.details.items() if name != "speculation"} == {
        "batching": "packed",
        "reason": "packed logits equal plain ones",
        "slots": 4,
        "slot_tokens": 160,
        "context": 256,
        "token_budget": 24,
        "prefix_reuse": True,
        "cuda_graphs": 0,
        "slot_state_bytes": 0,
        "prompt_bounds": {"tokens": 96, "bytes": 96 * 19},
        "accepted": {"vocabulary": 400, "chat": ()},
        "generation_config": {"applied": {}, "not_applied": {}},
    }


def test_a_cache_beyond_the_memory_is_refused_by_name(
    llama: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workers.engines.loading.placement.Placement.free_bytes", lambda _: 1000)
    monkeypatch.setattr("workers.engines.loading.pretrained.fits_at_once", lambda *_: True)

    with pytest.raises(ConfigError, match=r"models\.tiny: one sequence of 160 tokens"):
        TextGeneration(
            text_spec(llama, limits=Limits(max_prompt_tokens=96, max_new_tokens=64))
        ).load()
