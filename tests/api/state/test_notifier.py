import threading

from api.state.notifier import Notifier
from tests.conftest import eventually


def test_a_bell_rings_in_order_and_finishes_before_it_stops() -> None:
    rung: list[str] = []
    notifier = Notifier(rung.append)

    for model in "abc":
        notifier.ring(model)
    notifier.stop()

    assert rung == ["a", "b", "c"]


def test_a_hanging_broker_holds_nobody_up() -> None:
    hangs, release = threading.Event(), threading.Event()
    rung: list[str] = []

    def ring(model: str) -> None:
        hangs.set()
        assert release.wait(10)
        rung.append(model)

    notifier = Notifier(ring)
    notifier.ring("a")
    notifier.ring("b")
    assert hangs.wait(10)
    notifier.stop(timeout=0.05)

    assert rung == [], "both calls came back before the broker did"
    release.set()
    eventually(lambda: rung == ["a", "b"], what="what was asked for is rung all the same")


def test_a_failing_ring_does_not_end_the_bell() -> None:
    rung: list[str] = []

    def ring(model: str) -> None:
        if model == "bad":
            raise ConnectionError
        rung.append(model)

    notifier = Notifier(ring)
    notifier.ring("bad")
    notifier.ring("good")
    notifier.stop()

    assert rung == ["good"]


def test_a_stopped_bell_may_ring_again() -> None:
    rung: list[str] = []
    notifier = Notifier(rung.append)

    notifier.stop()
    notifier.ring("a")
    notifier.stop()

    assert rung == ["a"]
