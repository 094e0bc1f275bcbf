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
        self.breaker = WorkerBreaker("m", POLICY, Observers(self.told), 10.0, lambda: self.now)

    def sicken(self) -> None:
        for _ in range(2):
            self.breaker.record("t", "failure")


def test_a_sick_worker_stops_tries_one_job_and_goes_on() -> None:
    scene = Scene()
    scene.sicken()
    assert scene.breaker.state is BreakerState.OPEN and scene.breaker.open
    assert scene.breaker.report()["retry_after_ms"] == 1000

    scene.now = 1000
    assert scene.breaker.state is BreakerState.HALF_OPEN and not scene.breaker.open
    scene.breaker.begin("probe")
    scene.breaker.record("probe", "success")

    assert scene.breaker.state is BreakerState.CLOSED
    assert [change[1:] for change in scene.told.changes] == [
        ("worker", "closed", "open"),
        ("worker", "open", "half_open"),
        ("worker", "half_open", "closed"),
    ]


def test_a_claim_tells_that_the_model_is_parked() -> None:
    scene = Scene()
    assert not scene.breaker.parked
    scene.breaker.heard(3.0, None)
    assert scene.breaker.parked and scene.breaker.open
    assert scene.breaker.state is BreakerState.CLOSED, "that is the worker's own"
    scene.breaker.heard(0.0, ("open", "half_open"))
    assert not scene.breaker.open
    assert scene.told.changes == [("m", "model", "open", "half_open")]


def test_what_our_report_did_is_known_at_once() -> None:
    scene = Scene()
    scene.breaker.changed(None)
    assert not scene.breaker.open
    scene.breaker.changed(("closed", "open"))
    assert scene.breaker.open
    scene.breaker.changed(("half_open", "closed"))
    assert not scene.breaker.open


def test_reset() -> None:
    scene = Scene()
    scene.sicken()
    scene.breaker.heard(3.0, None)
    scene.breaker.reset()
    assert not scene.breaker.open and scene.breaker.report()["opened"] == 1
