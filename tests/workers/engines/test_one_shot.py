"""Users' models: what they return is checked, what they break breaks alone, batches are well chosen."""

from asyncio import CancelledError
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from shared.domain.errors import ConfigError, InputRefused
from shared.domain.models.catalog import Batch, ModelSpec
from tests.engine_driver import Ran, drive
from workers.engines.base import Engine, Failed, Step, Work
from workers.engines.batching.batch_plan import PADDING_CAP, alike, around, oldest_first
from workers.engines.batching.batch_wait import StepCost
from workers.engines.faults import Unprepared
from workers.engines.one_shot import OneShot, OneShotModel
from workers.engines.outputs import BadOutput
from workers.engines.registry import build
from workers.host.isolation import Isolation


class Double(OneShotModel):
    """Says every input twice, but returns for the words in `SAY` what stands there."""

    def __init__(self) -> None:
        self.batches: list[list[Any]] = []

    def predict(self, inputs: list[Any]) -> Sequence[Any]:
        self.batches.append(inputs)
        if "raise" in inputs:
            raise RuntimeError("a row broke the batch")
        return [SAY[i] if isinstance(i, str) and i in SAY else i * 2 for i in inputs]


SAY: dict[Any, Any] = {
    "refuse": InputRefused("not this"),
    "long": InputRefused("too long", code="prompt_too_long"),
    "fault": ValueError("odd"),
    "nan": {"scores": [1.0, float("nan")]},
    "infinity": float("inf"),
    "object": object(),
    "surrogate": "\ud800",
    "tensor": torch.tensor([1, 2]),
}


class Forgetful(OneShotModel):
    def predict(self, inputs: list[Any]) -> Sequence[Any]:
        return [item for item in inputs if item != "skip"]


class Chatty(OneShotModel):
    """Not a list at all."""

    def predict(self, inputs: list[Any]) -> Any:
        return "yes"


class Tensors(OneShotModel):
    def load(self, device: torch.device) -> None:
        self.factor = torch.tensor(float(self.options["factor"]), device=device)

    def collate(self, inputs: list[Any]) -> torch.Tensor:
        return torch.tensor(inputs)

    def predict(self, inputs: torch.Tensor) -> Any:
        assert torch.is_inference_mode_enabled()
        return inputs * self.factor


class Lengths(Double):
    def cost(self, item: Any) -> float:
        if not isinstance(item, str):
            raise InputRefused("a text, please")
        return len(item)


class Streaming(OneShotModel):
    def stream(self, item: Any) -> Iterator[Any]:
        for number in range(3):
            if item == "break" and number == 1:
                raise RuntimeError("in the middle")
            if item == "exit" and number == 1:
                raise SystemExit(1)
            if item == "cancel" and number == 1:
                raise CancelledError
            yield float("nan") if item == "nan" and number == 1 else number


class Neither(OneShotModel):
    """Lacks everything."""


def engine_of(kind: type, batch: Batch | None = None, **options: Any) -> Engine:
    spec = ModelSpec(
        name="m",
        engine=f"{__name__}:{kind.__name__}",
        device="cpu",
        batch=batch or Batch(),
        options=options,
    )
    engine = build(spec)
    engine.load()
    return engine


def works(*inputs: Any) -> list[Work]:
    return [Work(str(n), item, {}, seed=0) for n, item in enumerate(inputs)]


def codes(ran: Ran) -> dict[str, str]:
    return {end.id: end.code for end in ran.outcomes.values() if isinstance(end, Failed)}


def test_outputs_go_to_their_inputs_in_batches_of_the_oldest() -> None:
    ran = drive(engine_of(Double, Batch(max_size=2)), works(1, 2, 3, "a", [4]))

    assert [ran.finished(str(n)).output for n in range(5)] == [2, 4, 6, "aa", [4, 4]]
    assert [step.batch_size for step in ran.steps] == [2, 2, 1]
    assert ran.finished("0").usage == {"batch_size": 2}


def test_a_tensor_is_as_good_as_a_list() -> None:
    ran = drive(engine_of(Tensors, factor=3), works([1, 2], [3, 4]))

    assert ran.finished("1").output == [9.0, 12.0]


def test_a_bad_row_fails_alone() -> None:
    inputs = ["refuse", "long", "fault", "nan", "infinity", "object", "surrogate", "tensor", 5]
    ran = drive(engine_of(Double), works(*inputs))

    expected = ["invalid_input", "prompt_too_long", *["engine_error"] * 5]
    assert list(codes(ran).values()) == expected
    assert ran.finished("7").output == [1, 2] and ran.finished("8").output == 10
    assert len(ran.steps) == 1


def test_a_wrong_number_of_outputs_names_both_and_commits_nothing() -> None:
    engine = engine_of(Forgetful)
    for work in works("a", "skip", "b"):
        engine.admit(work)

    with pytest.raises(BadOutput, match="2 outputs for 3 inputs"):
        engine.step()
    assert engine.pending() == 3


def test_what_is_no_list_is_named() -> None:
    engine = engine_of(Chatty)
    engine.admit(works("a")[0])

    with pytest.raises(BadOutput, match="it returned str"):
        engine.step()


@pytest.mark.parametrize("kind", [Forgetful, Double])
def test_the_input_that_breaks_a_batch_is_isolated(kind: type) -> None:
    culprit = "skip" if kind is Forgetful else "raise"
    isolation = Isolation(engine_of(kind), continues=False)
    for work in works("a", "b", culprit, "d", "e"):
        isolation.admit(work)
    ran = Ran()
    while isolation.pending():
        ran.take(isolation.step())

    assert codes(ran) == {"2": "poison_input"}
    end = ran.outcomes["2"]
    assert isinstance(end, Failed)
    if kind is Forgetful:
        assert "0 outputs for 1 inputs" in end.message


def test_params_are_refused_rather_than_ignored() -> None:
    engine = engine_of(Double)
    with pytest.raises(InputRefused, match="temperature"):
        engine.admit(Work("a", 1, {"temperature": 1}, seed=0))
    assert engine.pending() == 0


def test_inputs_of_like_cost_share_a_batch() -> None:
    engine = engine_of(Lengths, Batch(max_size=4))
    with pytest.raises(InputRefused):
        engine.admit(works(7)[0])
    texts = ["a" * n for n in (10, 90, 11, 100, 12, 95)]
    ran = drive(engine, works(*texts))

    assert [step.batch_size for step in ran.steps] == [3, 3]
    assert all(ran.finished(str(n)).output == text * 2 for n, text in enumerate(texts))


@pytest.mark.parametrize("cost", [0, -1, float("nan"), float("inf")])
def test_a_cost_that_is_none_is_named(cost: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Lengths, "cost", lambda self, item: cost)
    with pytest.raises(ValueError, match="positive and finite"):
        engine_of(Lengths).admit(works("a")[0])


def test_a_stream_sends_each_value_and_ends_with_all() -> None:
    ran = drive(engine_of(Streaming), works("a", "b"))

    assert [piece.output for piece in ran.pieces["0"]] == [0, 1, 2]
    assert ran.finished("1").output == [0, 1, 2]
    assert ran.finished("1").usage == {"batch_size": 2}


@pytest.mark.parametrize("fault", ["break", "exit", "nan", "cancel"])
def test_a_stream_that_breaks_ends_alone(fault: str) -> None:
    ran = drive(engine_of(Streaming), works("a", fault, "c"))

    assert codes(ran) == {"1": "engine_error"}
    assert [piece.output for piece in ran.pieces["1"]] == [0]


class Changing(OneShotModel):
    """Takes its inputs apart: `inputs = data.pop("inputs", data)` is a published idiom."""

    def cost(self, item: Any) -> float:
        return float(len(item.pop("inputs")))

    def collate(self, inputs: list[Any]) -> list[Any]:
        return [item.pop("inputs", item) for item in inputs]

    def predict(self, inputs: list[Any]) -> Sequence[Any]:
        if "bad" in inputs:
            raise ValueError("cannot take this")
        return inputs


class ChangingStream(OneShotModel):
    """Yields one object again and again, and changes it in between."""

    def stream(self, item: Any) -> Iterator[Any]:
        state = {"seen": [item.pop("inputs")]}
        for number in range(2):
            yield state
            state["seen"].append(number)


def stored(*inputs: Any) -> list[Work]:
    requests = [{"content": one, "params": {}, "seed": 0} for one in inputs]
    return [Work.of(str(n), msgspec.json.encode(one)) for n, one in enumerate(requests)]


def test_a_model_that_changes_its_inputs_gets_them_whole_at_every_try() -> None:
    engine = engine_of(Changing)
    texts = ["good 0", "bad", *(f"good {n}" for n in range(1, 6))]
    ran = drive(Isolation(engine, continues=False), stored(*({"inputs": t} for t in texts)))

    assert codes(ran) == {"1": "poison_input"}
    assert [ran.finished(str(n)).output for n in range(7) if n != 1] == [texts[0], *texts[2:]]


def test_inputs_that_are_one_object_are_not_changed_for_each_other() -> None:
    same = {"inputs": "shared"}
    ran = drive(engine_of(Changing), [Work(str(n), same, {}, seed=0) for n in range(3)])

    assert [ran.finished(str(n)).output for n in range(3)] == ["shared"] * 3


def test_what_a_stream_has_said_does_not_change_afterwards() -> None:
    ran = drive(engine_of(ChangingStream), stored({"inputs": "a"}))

    said = [{"seen": ["a"]}, {"seen": ["a", 0]}]
    assert [piece.output for piece in ran.pieces["0"]] == said
    assert ran.finished("0").output == said


class Uncollated(Double):
    def collate(self, inputs: list[Any]) -> list[Any]:
        return [item["text"] for item in inputs]


def test_inputs_that_cannot_be_made_a_batch_are_to_blame_and_not_the_engine() -> None:
    ran = drive(Isolation(engine_of(Uncollated), continues=False), works({"txet": "typo"}))
    assert codes(ran) == {"0": "poison_input"}

    engine = engine_of(Uncollated)
    engine.admit(works({"txet": "typo"})[0])
    with pytest.raises(Unprepared, match="KeyError"):
        engine.step()


def test_a_canceled_stream_is_closed_and_may_come_again() -> None:
    engine = engine_of(Streaming)
    engine.admit(works("a")[0])
    engine.step()
    engine.cancel("0")

    assert engine.pending() == 0 and engine.step() == Step()
    assert drive(engine, works("a")).finished("0").output == [0, 1, 2]


def test_a_model_without_predict_is_refused() -> None:
    with pytest.raises(ConfigError, match="Neither has no predict"):
        engine_of(Neither)


costs = st.lists(st.integers(1, 100), max_size=40)
limits = st.tuples(st.integers(1, 40), st.integers(1, 500))


@given(costs, limits)
def test_a_plan_keeps_its_limits_and_serves_the_oldest(
    costs: list[int], limits: tuple[int, int]
) -> None:
    most, budget = limits
    for plan in (oldest_first, alike):
        chosen = plan(costs, most, budget)
        rows = [costs[index] for index in chosen]

        assert len(set(chosen)) == len(chosen) <= most
        assert bool(chosen) == bool(costs)
        assert not costs or 0 in chosen
        if plan is alike and len(rows) > 1:
            padded = max(rows) * len(rows)
            assert padded <= budget
            assert sum(rows) >= padded * (1 - PADDING_CAP)
        elif len(rows) > 1:
            assert sum(rows) <= budget


def test_equal_costs_fill_the_batch() -> None:
    assert len(alike([5.0] * 10, 8, 1000)) == 8
    assert len(alike([5.0] * 10, 8, 20)) == 4
    assert oldest_first([5.0] * 10, 8, 20) == [0, 1, 2, 3]


def known(overhead: float, per_item: float) -> StepCost:
    cost = StepCost()
    for size in (1, 8, 3, 20):
        cost.ran(size, overhead + per_item * size)
    return cost


@pytest.mark.parametrize(
    ("left", "around_whom", "rows"),
    [
        ((9.0, 9.0, 9.0), 0, 8),
        ((9.0, 9.0, 3.0), 0, 8),
        ((9.0, 9.0, 2.5), 2, 8),
        ((9.0, 9.0, 1.35), 2, 3),
        ((9.0, 9.0, 1.12), 2, 1),
        ((9.0, 9.0, 1.0), 0, 8),
        ((1.35, 9.0, 9.0), 0, 3),
    ],
)
def test_a_job_that_is_about_to_expire_is_not_put_behind_a_long_batch(
    left: tuple[float, ...], around_whom: int, rows: int
) -> None:
    cost = known(1.0, 0.1)

    assert around([100 + seconds for seconds in left], 100.0, cost, 8) == (around_whom, rows)


def test_while_nothing_is_known_the_oldest_come_first() -> None:
    assert around([5.0, 1.0], 0.0, StepCost(), 8) == (0, 8)


class Clocked(Double):
    """A batch takes a second on the test's clock."""

    now = 0.0

    def predict(self, inputs: list[Any]) -> Sequence[Any]:
        type(self).now += 1.0 + 0.01 * len(inputs)
        return super().predict(inputs)


def clocked(**batch: Any) -> tuple[OneShot, Clocked]:
    Clocked.now = 0.0
    model = Clocked()
    spec = ModelSpec(name="m", engine="own", device="cpu", batch=Batch(**batch))
    engine = OneShot(spec, model, clock=lambda: Clocked.now)
    engine.load()
    for size in (1, 2, 1, 2):
        drive(engine, works(*["x"] * size))
    model.batches.clear()
    return engine, model


def test_the_urgent_job_goes_first_but_never_twice_in_a_row_before_the_oldest() -> None:
    engine, model = clocked(max_size=1)
    now = Clocked.now
    for name, left in (("old", 100.0), ("urgent", 2.0), ("urgent too", 3.1)):
        engine.admit(Work(name, name, {}, seed=0, expires=now + left))
    drive(engine)

    assert model.batches == [["urgent"], ["old"], ["urgent too"]]


def test_an_engine_waits_for_company_that_is_coming_and_for_no_other() -> None:
    engine, _ = clocked(max_size=8, flush_timeout_ms=20)
    engine.admit(works("a")[0])
    assert engine.batch_delay() == 0.0, "nobody knows that more will come"
    drive(engine)

    for n in range(60):
        Clocked.now += 0.001
        engine.admit(Work(f"b{n}", "b", {}, seed=0))
        if engine.pending() == 8:
            drive(engine)
    assert 0 < engine.pending() < 8
    assert 0 < engine.batch_delay() <= 0.02
    Clocked.now += 0.02
    assert engine.batch_delay() == 0.0, "the limit is reached"
    drive(engine)

    Clocked.now += 60
    engine.admit(works("late")[0])
    assert engine.batch_delay() == 0.0


def test_a_flush_timeout_of_zero_never_waits() -> None:
    engine, _ = clocked(max_size=8, flush_timeout_ms=0)
    for n in range(40):
        Clocked.now += 0.001
        engine.admit(Work(f"b{n}", "b", {}, seed=0))
        assert engine.batch_delay() == 0.0
        if engine.pending() == 7:
            drive(engine)


class Cramped(Lengths):
    """Rows times the longest is what a batch needs."""

    def predict(self, inputs: list[Any]) -> Sequence[Any]:
        if len(inputs) * max(map(len, inputs)) > 12:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return super().predict(inputs)


def test_memory_that_runs_out_makes_batches_smaller_and_ends_only_what_cannot_fit() -> None:
    engine = engine_of(Cramped)
    ran = drive(Isolation(engine, continues=False), works(*["abc"] * 20, "x" * 50))

    assert codes(ran) == {"20": "out_of_memory"}
    assert max(step.batch_size for step in ran.steps) == 2, "60, 30 and 15 did not fit"
