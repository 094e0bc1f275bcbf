"""Faults of vLLM: whose texts they end, and when they end the host."""

from typing import Any

import pytest

from tests import fake_vllm
from tests.engine_driver import Ran, drive, resumed
from tests.workers.engines.vllm.asking import LONG, PROMPTS, expected, work
from workers.engines.base import Failed, Work
from workers.engines.faults import DeviceLost
from workers.engines.vllm import adapter
from workers.engines.vllm.adapter import Vllm
from workers.host.isolation import Isolation


def test_a_job_that_vllm_gives_up_is_an_engine_error(engine: Vllm) -> None:
    engine._engine.ends_with = "abort"
    [end] = drive(engine, [work("a")]).outcomes.values()

    assert isinstance(end, Failed) and end.code == "engine_error" and "abort" in end.message


def test_a_dead_engine_ends_the_host(engine: Vllm) -> None:
    engine._engine.fault = fake_vllm.EngineDeadError("core died")
    engine.admit(work("a"))

    with pytest.raises(DeviceLost, match="core died"):
        engine.step()


def faulted(engine: Any, vllm: Any, works: list[Work], steps: int, fault: BaseException) -> Ran:
    """What the works bring when the step after so many of them raises."""
    ran = Ran()
    for one in works:
        engine.admit(one)
    while engine.pending():
        if len(ran.steps) == steps:
            vllm.fault = fault
        ran.take(engine.step())
        assert len(ran.steps) < 200, "jobs that never end"
    return ran


@pytest.mark.parametrize("steps", [0, 1, 5])
@pytest.mark.parametrize("fault", [RuntimeError("once"), ConnectionError(), SystemExit(1)])
def test_a_step_that_raises_changes_no_text(engine: Vllm, steps: int, fault: BaseException) -> None:
    works = [work("a", LONG), work("b", LONG), work("c", PROMPTS[2])]
    ran = faulted(Isolation(engine, continues=True), engine._engine, works, steps, fault)

    for one in works:
        assert ran.text(one.id) == ran.streamed(one.id) == expected(one.content, 12)
        assert ran.finished(one.id).usage["completion_tokens"] == 12
    assert engine._engine.requests == {}


def test_blocks_of_a_failed_step_are_given_to_nobody(engine: Vllm) -> None:
    """Not to those who come later either."""
    engine.admit(work("a", LONG))
    engine._engine.fault = RuntimeError("once")
    with pytest.raises(RuntimeError, match="once"):
        engine.step()
    engine.cancel("a")

    assert drive(engine, [work("b", LONG)]).text("b") == expected(LONG, 12)


def test_memory_that_runs_out_is_given_back_before_vllm_is_tried(
    engine: Vllm, monkeypatch: pytest.MonkeyPatch
) -> None:
    given_back: list[int] = []
    monkeypatch.setattr(adapter, "reclaim", lambda: given_back.append(1))
    engine.admit(work("a", LONG))
    engine._engine.fault = RuntimeError("CUDA out of memory")
    with pytest.raises(RuntimeError, match="out of memory"):
        engine.step()

    assert given_back and drive(engine).text("a") == expected(LONG, 12)


@pytest.mark.parametrize("fault", ["between", "held"])
def test_an_engine_that_a_fault_leaves_useless_ends_the_host(engine: Vllm, fault: str) -> None:
    setattr(engine._engine, fault, True)
    engine._engine.fault = RuntimeError("once")
    engine.admit(work("a"))

    with pytest.raises(DeviceLost, match="of no use after a step that raised") as lost:
        engine.step()
    assert lost.value.blames


def test_a_lost_device_is_told_as_one(engine: Vllm) -> None:
    engine._engine.fault = RuntimeError("CUDA error: uncorrectable ECC error")
    engine.admit(work("a"))

    with pytest.raises(DeviceLost, match="ECC") as lost:
        engine.step()
    assert not lost.value.blames


def test_an_end_is_not_lost_in_a_step_that_raises(engine: Vllm) -> None:
    whole = drive(engine, [work("a")])
    done = resumed(work("a"), whole.pieces["a"])
    ran = faulted(
        Isolation(engine, continues=True), engine._engine, [done, work("b")], 0, RuntimeError()
    )

    assert ran.finished("a").output == whole.finished("a").output
    assert ran.text("b") == expected(PROMPTS[0], 12)


def test_a_text_that_cannot_be_read_ends_alone(
    engine: Vllm, monkeypatch: pytest.MonkeyPatch
) -> None:
    push = engine._detokenizer.push
    calls = iter(range(1000))

    def fail(*arguments: Any) -> Any:
        if next(calls) == 1:
            raise KeyError("a token of no vocabulary")
        return push(*arguments)

    monkeypatch.setattr(engine._detokenizer, "push", fail)
    ran = drive(engine, [work("a"), work("b"), work("c", PROMPTS[1])])

    end = ran.outcomes["b"]
    assert isinstance(end, Failed) and end.code == "engine_error" and "KeyError" in end.message
    assert ran.text("a") == ran.streamed("a") == expected(PROMPTS[0], 12)
    assert ran.text("c") == expected(PROMPTS[1], 12)
    assert engine._engine.requests == {}
