"""Steps that fail, and logits that are no numbers, change no text but that of the job they concern."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from shared.domain.models.catalog import Batch
from tests.conftest import by_turns
from tests.engine_driver import Ran, drive
from tests.tiny_models import (
    WAYS,
)
from tests.workers.engines.text_generation.texts import loaded, works
from workers.engines.base import Failed, Work
from workers.engines.text_generation.engine import TextGeneration
from workers.engines.text_generation.forward.packed import layout
from workers.engines.text_generation.sampling import sampler


@pytest.mark.explores
@pytest.mark.parametrize(("place", "kind"), by_turns(["before", "after", "sampling"], list(WAYS)))
def test_a_step_that_fails_has_changed_nothing(
    kind: str,
    place: str,
    running: Callable[[str], TextGeneration],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    engine = running(kind)
    expected = drive(engine, works(6, temperature=0.7, max_new_tokens=10))
    run, choose = engine._runner.run, sampler.choose
    calls = {"n": 0}

    def fails() -> bool:
        calls["n"] += 1
        return calls["n"] % 3 == 0

    def faulty_run(chunks: Any) -> Any:
        failing = place != "sampling" and fails()
        if failing and place == "before":
            raise RuntimeError("a device broke")
        ran = run(chunks)
        if failing:
            raise RuntimeError("a device broke")
        return ran

    def faulty_choose(*given: Any) -> sampler.Chosen:
        if place == "sampling" and fails():
            raise RuntimeError("sampling broke")
        return choose(*given)

    monkeypatch.setattr(engine._runner, "run", faulty_run)
    monkeypatch.setattr(sampler, "choose", faulty_choose)
    for work in works(6, temperature=0.7, max_new_tokens=10):
        engine.admit(work)
    ran, failures = Ran(), 0
    while engine.pending():
        try:
            ran.take(engine.step())
        except RuntimeError:
            failures += 1

    assert failures > 5
    for n in range(6):
        assert ran.text(f"job-{n}") == expected.text(f"job-{n}")
        assert ran.streamed(f"job-{n}") == expected.text(f"job-{n}")


def test_logits_that_are_no_numbers_end_one_job_and_leave_its_slot_clean(
    llama: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = loaded(llama)
    expected = drive(engine, works(8))
    run = engine._runner.run

    def poisoned(chunks: Any) -> Any:
        rows, logits = run(chunks)
        for place, row in enumerate(rows):
            if row.sequence.id == "job-1" and row.sequence.generated == 3:
                logits[place, 0] = float("nan")
                for tensor in engine._runner._cache.values:  # type: ignore[attr-defined]
                    tensor[row.sequence.slot] = float("nan")
        return rows, logits

    monkeypatch.setattr(engine._runner, "run", poisoned)
    ran = drive(engine, works(8))

    outcome = ran.outcomes.pop("job-1")
    assert isinstance(outcome, Failed)
    assert outcome.code == "engine_error"
    for job_id in ran.outcomes:
        assert ran.text(job_id) == expected.text(job_id)


@pytest.mark.parametrize("reuse", [False, True])
def test_a_step_that_fails_leaves_no_numbers_that_are_none_in_a_newcomers_slot(
    llama: Path, monkeypatch: pytest.MonkeyPatch, reuse: bool
) -> None:
    # One call for all single tokens: whoever decodes beside a slot looks over its masked places.
    monkeypatch.setattr(layout, "together", lambda _: True)
    engine = loaded(llama, batch=Batch(max_size=4, token_budget=200, prefix_reuse=reuse))
    expected = drive(engine, works(4))
    run = engine._runner.run

    def broken(chunks: Any) -> Any:
        run(chunks)
        for chunk in chunks:
            for tensor in engine._runner._cache.values:  # type: ignore[attr-defined]
                tensor[chunk.slot, :, chunk.start : chunk.end] = float("nan")
        raise RuntimeError("a device broke")

    for number in range(4):
        engine.admit(Work(f"long-{number}", "x" * 90, {"max_new_tokens": 4}, seed=0))
    monkeypatch.setattr(engine._runner, "run", broken)
    with pytest.raises(RuntimeError):
        engine.step()
    monkeypatch.setattr(engine._runner, "run", run)
    for number in range(4):
        engine.cancel(f"long-{number}")
    ran = drive(engine, works(4))

    for n in range(4):
        assert ran.text(f"job-{n}") == expected.text(f"job-{n}")
