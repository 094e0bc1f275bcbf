"""A worker's view of its own and its model's breaker, with a clock of the test's own."""

from shared.domain.breaker import BreakerState
from shared.hooks import Hooks, Observers
from shared.store.breaker import BreakerPolicy
from workers.execution.worker_breaker import WorkerBreaker

POLICY = BreakerPolicy(threshold=2, cooldown=1000)


class Told(Hooks):
    def __init__(self) -> None:
        self.changes: list[tuple[str, str, str, str]] = []

    def breaker_changed(self, model: str, scope: str, old: str, new: str) -> None:
        self.changes.append((model, scope, old, new))


class Scene:
    def __init__(self) -> None:
        self.now = 0
        self.told = Told()
        self.guard = WorkerBreaker("m", POLICY, Observers(self.told), 10.0, lambda: self.now)

    def sicken(self) -> None:
        for _ in range(2):
            self.guard.record("t", "failure")


def test_a_sick_worker_stops_tries_one_job_and_goes_on() -> None:
    scene = Scene()
    scene.sicken()
    assert scene.guard.state is BreakerState.OPEN and scene.guard.open
    assert scene.guard.report()["retry_after_ms"] == 1000

    scene.now = 1000
    assert scene.guard.state is BreakerState.HALF_OPEN and not scene.guard.open
    scene.guard.begin("probe")
    scene.guard.record("probe", "success")

    assert scene.guard.state is BreakerState.CLOSED
    assert [change[1:] for change in scene.told.changes] == [
        ("worker", "closed", "open"),
        ("worker", "open", "half_open"),
        ("worker", "half_open", "closed"),
    ]


def test_a_claim_tells_that_the_model_is_parked() -> None:
    scene = Scene()
    assert not scene.guard.parked
    scene.guard.heard(3.0, None)
    assert scene.guard.parked and scene.guard.open
    assert scene.guard.state is BreakerState.CLOSED, "that is the worker's own"
    scene.guard.heard(0.0, ("open", "half_open"))
    assert not scene.guard.open
    assert scene.told.changes == [("m", "model", "open", "half_open")]


def test_what_our_report_did_is_known_at_once() -> None:
    scene = Scene()
    scene.guard.changed(None)
    assert not scene.guard.open
    scene.guard.changed(("closed", "open"))
    assert scene.guard.open
    scene.guard.changed(("half_open", "closed"))
    assert not scene.guard.open


def test_reset() -> None:
    scene = Scene()
    scene.sicken()
    scene.guard.heard(3.0, None)
    scene.guard.reset()
    assert not scene.guard.open and scene.guard.report()["opened"] == 1
