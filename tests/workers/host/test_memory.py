"""Memory that runs out, and a device that is gone: whose fault it is, and what is let go of."""

import weakref

import pytest

from tests.workers.host.fragile import Fragile, batch, drive, serve, work
from workers.engines.base import Finished, Step, Work
from workers.engines.batching.budget import Budget
from workers.engines.faults import DeviceLost
from workers.host.isolation import Isolation


class Cramped(Fragile):
    """A step may cost `memory` in all; a job costs its content. Counts what was taken per step."""

    def __init__(
        self, memory: float, *, bounded: bool, error: type[Exception] = MemoryError
    ) -> None:
        super().__init__()
        self.memory = memory
        self.error = error
        self.sizes: list[int] = []
        if bounded:
            self.budget = Budget(1000)

    def step(self) -> Step:
        batch: list[Work] = []
        spent = 0
        for one in self.works.values():
            if batch and hasattr(self, "budget") and spent + one.content > self.budget.now:
                break
            batch.append(one)
            spent += one.content
        if hasattr(self, "budget"):
            self.budget.spend(spent, batch[0].content)
        if spent > self.memory:
            self.failures += 1
            raise self.error("out of memory")
        self.sizes.append(len(batch))
        for one in batch:
            self.cancel(one.id)
        return Step([], [Finished(one.id, {}) for one in batch], len(batch))


@pytest.mark.parametrize("error", [MemoryError, RuntimeError])
def test_memory_that_runs_out_is_nobody_s_fault(error: type[Exception]) -> None:
    engine = Cramped(10, bounded=True, error=error)
    ran = serve(engine, [work(str(n), 2) for n in range(32)])

    assert len(ran.finished()) == 32
    assert engine.failures == 3, "64, 32 and 16 did not fit"
    assert max(engine.sizes) == 4 and engine.admitted == 32


def test_what_fits_is_remembered() -> None:
    engine = Cramped(10, bounded=True)
    said: list[float] = []
    isolation = Isolation(engine, continues=True, remember=lambda budget: said.append(budget.now))
    for n in range(16):
        isolation.admit(work(str(n), 2))
    drive(isolation)

    assert said == [16, 8]
    for n in range(16):
        isolation.admit(work(str(n), 2))
    before = engine.failures
    drive(isolation)
    assert engine.failures == before


@pytest.mark.parametrize("bounded", [True, False])
@pytest.mark.parametrize("at", [0, 5, 15])
def test_a_job_that_does_not_fit_alone_ends_and_its_neighbours_go_on(
    at: int, bounded: bool
) -> None:
    engine = Cramped(40, bounded=bounded)
    ran = serve(engine, [work(str(n), 100 if n == at else 2) for n in range(16)])

    assert ran.codes() == {str(at): "out_of_memory"}
    assert len(ran.finished()) == 15


def test_a_lone_job_that_does_not_fit_says_so() -> None:
    ran = serve(Cramped(10, bounded=True), [work("a", 100)])

    assert ran.codes() == {"a": "out_of_memory"}


def test_a_poison_among_jobs_that_do_not_fit_together_is_told_from_them() -> None:
    class Both(Cramped):
        def step(self) -> Step:
            if any(one.id == "bad" for one in list(self.works.values())[:4]):
                raise ValueError("poison")
            return super().step()

    fine = [work(str(n), 2) for n in range(20)]
    ran = serve(Both(10, bounded=True), [*fine[:10], work("bad", 2), *fine[10:]])

    assert ran.codes() == {"bad": "poison_input"} and len(ran.finished()) == 20


def test_nothing_holds_the_tensors_of_a_failed_step() -> None:
    class Tensors:
        """Stands for what a step had allocated."""

    class Leaky(Cramped):
        def step(self) -> Step:
            tensors = Tensors()
            self.seen = weakref.ref(tensors)
            return super().step()

    engine = Leaky(10, bounded=True)
    isolation = Isolation(engine, continues=True)
    for n in range(16):
        isolation.admit(work(str(n), 2))
    isolation.step()

    assert engine.failures == 1 and engine.seen() is None
    drive(isolation)


@pytest.mark.parametrize("searching", [False, True])
def test_a_device_that_is_gone_ends_the_host(searching: bool) -> None:
    gone = RuntimeError("CUDA error: uncorrectable ECC error encountered")
    before: list[BaseException | None] = [ValueError("a"), ValueError("b")] if searching else []
    isolation = Isolation(Fragile(moods=[*before, gone]), continues=True)
    for one in batch(4, set()):
        isolation.admit(one)
    for _ in before:
        isolation.step()

    with pytest.raises(DeviceLost) as lost:
        isolation.step()
    assert not lost.value.blames
