"""What a worker says of itself while doorbells do not come to it."""

from types import SimpleNamespace
from typing import cast

import msgspec
import pytest

from shared.store.jobs import JobStore
from workers.engine_host.events import EngineState
from workers.execution.executor import Executor
from workers.queue.doorbells import DEAF_BEATS, Doorbells
from workers.queue.worker_report import worker_report

BEAT = 5.0


class Worker:
    """A worker with a loaded engine, whose doorbells run under a clock of the test's own."""

    def __init__(self, store: JobStore) -> None:
        self.store, self.now = store, 0.0
        self.doorbells = Doorbells(lambda: None, BEAT, lambda: self.now)
        engine = SimpleNamespace(
            info=None,
            detail="",
            state=EngineState.READY,
            restarts=0,
            restart_seconds=0,
            memory=0,
            budget=None,
            draining=False,
            pid=1,
        )
        breaker = SimpleNamespace(report=dict)
        self.executor = cast("Executor", SimpleNamespace(engine=engine, active=0, breaker=breaker))

    def beat(self, beats: int) -> None:
        for _ in range(beats):
            self.now += BEAT
            self.doorbells.beat(took=False)

    @property
    def state(self) -> object:
        report = worker_report(self.store, self.executor, self.doorbells, "m", "mine", stuck=False)
        return report["state"]


@pytest.fixture
def worker(store: JobStore) -> Worker:
    return Worker(store)


def other(store: JobStore, heard_seconds: float | None) -> None:
    """Another worker of the model, which heard a doorbell so long ago."""
    said = {"state": "ready", "heard_seconds": heard_seconds}
    store.beat("m", "other", msgspec.json.encode(said), [])


def test_it_starts_until_its_first_doorbell_has_come(worker: Worker) -> None:
    worker.beat(DEAF_BEATS - 1)
    assert worker.state == "starting"
    with worker.doorbells.answering():
        pass
    assert worker.state == "ready"


def test_it_is_unhealthy_where_no_doorbell_comes_to_anybody(worker: Worker) -> None:
    worker.beat(DEAF_BEATS)
    assert worker.state == "unhealthy"
    other(worker.store, heard_seconds=None)
    assert worker.state == "unhealthy"


def test_it_is_ready_where_another_worker_takes_what_it_rings(worker: Worker) -> None:
    other(worker.store, heard_seconds=1.0)
    worker.beat(DEAF_BEATS - 1)
    assert worker.state == "starting"
    worker.beat(1)
    assert worker.state == "ready"
