"""A consumer that hears nothing is found out; one that is busy, or heard a moment ago, is not."""

from workers.queue.doorbells import DEAF_BEATS, QUIET_BEATS, Doorbells

BEAT = 5.0


class Worker:
    """Doorbells under a clock of the test's own, rung into a list."""

    def __init__(self) -> None:
        self.now = 100.0
        self.rings: list[float] = []
        self.doorbells = Doorbells(lambda: self.rings.append(self.now), BEAT, lambda: self.now)

    def beat(self, beats: int = 1, *, took: bool = False) -> None:
        for _ in range(beats):
            self.now += BEAT
            self.doorbells.beat(took=took)

    def answer(self) -> None:
        with self.doorbells.answering():
            pass


def test_a_worker_rings_for_itself_soon_after_it_has_begun() -> None:
    worker = Worker()
    assert worker.doorbells.heard_seconds is None
    worker.doorbells.beat(took=False)
    assert worker.rings == [], "its first beat comes before its consumer is there"
    worker.beat()
    assert len(worker.rings) == 1
    worker.answer()
    assert worker.doorbells.heard_seconds == 0 and not worker.doorbells.deaf


def test_one_that_hears_what_it_rings_is_never_deaf_and_rings_seldom() -> None:
    worker = Worker()
    for _ in range(100):
        before = len(worker.rings)
        worker.beat()
        if len(worker.rings) > before:
            worker.answer()
        assert not worker.doorbells.deaf
    assert len(worker.rings) <= 100 / QUIET_BEATS + 1


def test_one_that_hears_nothing_is_deaf_until_it_hears() -> None:
    worker = Worker()
    worker.answer()
    worker.beat(DEAF_BEATS - 1)
    assert worker.rings and not worker.doorbells.deaf
    worker.beat()
    assert worker.doorbells.deaf
    worker.beat(20)
    assert worker.doorbells.deaf
    worker.answer()
    assert not worker.doorbells.deaf


def test_under_load_nothing_is_rung_and_nobody_is_deaf() -> None:
    worker = Worker()
    with worker.doorbells.answering():
        worker.beat(100)
        assert worker.doorbells.heard_seconds == 0
    worker.beat(100, took=True)
    assert worker.rings == [] and not worker.doorbells.deaf


def test_beats_that_come_sooner_count_no_silence() -> None:
    worker = Worker()
    worker.answer()
    worker.beat()
    for _ in range(100):
        worker.now += 0.01
        worker.doorbells.beat(took=False)
    assert worker.rings == [] and not worker.doorbells.deaf


def test_a_consumer_that_is_shut_down_is_not_deaf() -> None:
    worker = Worker()
    worker.doorbells.stop()
    worker.beat(100)
    assert worker.rings == [] and not worker.doorbells.deaf
