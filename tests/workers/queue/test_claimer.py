"""Drains on a real store: who claims when a worker is notified, and when a drain ends."""

import logging
import threading
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any, cast

import pytest

from shared.domain.errors import StoreUnavailable
from shared.domain.records import Claim, NewJob, new_job_id
from shared.hooks import Observers
from shared.store.jobs import JobStore
from tests.conftest import PATIENCE, eventually
from workers.execution.executor import Executor
from workers.queue.claimer import Claimer

MODEL, WORKER = "m", "w"


class Engine:
    """Takes claims in an executor's place, and says which thread brought each."""

    def __init__(self) -> None:
        self.ready = True
        self.quarantined = False
        self.space = 4
        self.taken: list[tuple[Claim, str]] = []
        self.done = 0
        self.breaker = SimpleNamespace(heard=lambda pause, change: None)

    @property
    def active(self) -> int:
        return len(self.taken) - self.done

    def room(self) -> int:
        return self.space - self.active

    def run(self, claims: list[Claim]) -> None:
        self.taken += [(claim, threading.current_thread().name) for claim in claims]

    def advance(self) -> None: ...

    def release_quarantine(self) -> None: ...


class Waits(threading.Event):
    """Says whether somebody waits for it."""

    waiting = False

    def wait(self, timeout: float | None = None) -> bool:
        self.waiting = True
        try:
            return super().wait(timeout)
        finally:
            self.waiting = False


class Bench:
    def __init__(self, store: JobStore, idle_seconds: float) -> None:
        self.store = store
        self.engine = Engine()
        self.rings: list[str] = []
        self.claimer = Claimer(
            store,
            cast(Executor, cast(Any, self.engine)),
            MODEL,
            WORKER,
            Observers(),
            lambda: self.rings.append(threading.current_thread().name),
            idle_seconds,
        )
        self.changed = self.claimer._changed = Waits()
        self.drain = threading.Thread(target=self.claimer.drain, name="drain")

    def submit(self) -> str:
        job = NewJob(new_job_id(), MODEL, "t", b"{}")
        self.store.create(job, max_queued=100)
        return job.id

    def idle(self) -> bool:
        """Whether the drain has been told that nothing waits, and looks no more before it is called."""
        told = bool(self.store.redis.zcard(self.store.keys("idle", MODEL)))
        return told and self.changed.waiting and not self.changed.is_set()

    def claim_slowly(self) -> Callable[[], None]:
        """A thread is notified and takes over what it claimed, until the function returned is called."""
        takes, goes_on = threading.Event(), threading.Event()
        run = self.engine.run

        def run_slowly(claims: list[Claim]) -> None:
            takes.set()
            goes_on.wait(PATIENCE)
            run(claims)

        self.engine.run = run_slowly  # type: ignore[method-assign]
        caller = threading.Thread(target=self.claimer.claim_now, name="control")
        caller.start()
        assert takes.wait(PATIENCE)

        def go_on() -> None:
            goes_on.set()
            caller.join(PATIENCE)

        return go_on

    def start(self) -> None:
        """A drain that has had a job and now waits for the next."""
        self.submit()
        self.drain.start()
        eventually(lambda: self.engine.taken)
        self.engine.done = 1
        self.claimer.look_again()
        eventually(self.idle)


@pytest.fixture
def bench(store: JobStore) -> Iterator[Bench]:
    bench = Bench(store, idle_seconds=30)
    yield bench
    bench.claimer.stop()
    if bench.drain.ident is not None:
        bench.drain.join(PATIENCE)
        assert not bench.drain.is_alive()


def test_the_notified_thread_claims_without_waking_the_drain(bench: Bench) -> None:
    bench.start()
    ids = [bench.submit() for _ in range(3)]
    bench.claimer.claim_now()
    assert [(claim.id, by) for claim, by in bench.engine.taken[1:]] == [
        (job_id, threading.current_thread().name) for job_id in ids
    ]
    assert bench.idle()


def test_what_there_is_no_room_for_is_the_drains(bench: Bench) -> None:
    bench.start()
    ids = [bench.submit() for _ in range(6)]
    bench.claimer.claim_now()
    assert len(bench.engine.taken) == 5
    bench.engine.space = 100
    bench.claimer.room_changed()
    eventually(lambda: len(bench.engine.taken) == 7)
    assert {claim.id for claim, _ in bench.engine.taken[1:]} == set(ids)
    assert [by for _, by in bench.engine.taken[5:]] == ["drain", "drain"]


def test_nothing_is_claimed_once_the_worker_stops_or_the_engine_is_lost(bench: Bench) -> None:
    bench.start()
    bench.engine.ready = False
    bench.submit()
    bench.claimer.claim_now()
    assert len(bench.engine.taken) == 1
    bench.claimer.stop()
    bench.engine.ready = True
    bench.claimer.claim_now()
    assert len(bench.engine.taken) == 1


def test_who_stops_it_waits_for_the_claim_that_is_under_way(bench: Bench) -> None:
    bench.start()
    begun, may_end = threading.Event(), threading.Event()
    take = bench.engine.run

    def slowly(claims: list[Claim]) -> None:
        begun.set()
        assert may_end.wait(PATIENCE)
        take(claims)

    bench.engine.run = slowly  # type: ignore[method-assign]
    bench.submit()
    notified = threading.Thread(target=bench.claimer.claim_now)
    notified.start()
    assert begun.wait(PATIENCE)
    bench.claimer.stop()
    assert not bench.claimer.await_claim(0)
    may_end.set()
    assert bench.claimer.await_claim(PATIENCE) and len(bench.engine.taken) == 2
    notified.join(PATIENCE)


def test_a_drain_that_waits_for_its_turn_claims_nothing_once_it_is_stopped(bench: Bench) -> None:
    bench.start()
    bench.submit()
    go_on = bench.claim_slowly()
    bench.submit()
    bench.claimer.look_again()
    eventually(lambda: not (bench.changed.waiting or bench.changed.is_set()))
    bench.claimer.stop()
    go_on()
    bench.drain.join(PATIENCE)
    assert len(bench.engine.taken) == 2 and not bench.drain.is_alive()


def test_one_without_a_drain_rings(bench: Bench) -> None:
    bench.submit()
    bench.claimer.claim_now()
    assert len(bench.rings) == 1 and not bench.engine.taken


def test_a_drain_stays_while_others_claim_in_its_place(store: JobStore) -> None:
    bench = Bench(store, idle_seconds=1.0)
    bench.start()
    for count in range(2, 10):
        bench.submit()
        bench.claimer.claim_now()
        bench.engine.done = count
        bench.drain.join(0.15)
    assert bench.drain.is_alive() and bench.claimer.drain_id
    assert [by for _, by in bench.engine.taken[1:]].count("drain") == 0
    bench.drain.join(PATIENCE)
    assert not bench.drain.is_alive()
    assert not store.redis.zcard(store.keys("drains", MODEL))


def test_suspects_do_not_run_while_others_are_taken_over(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.start()
    bench.submit()
    go_on = bench.claim_slowly()
    seen: list[int] = []
    monkeypatch.setattr(bench.engine, "advance", lambda: seen.append(len(bench.engine.taken)))
    bench.claimer.look_again()
    bench.drain.join(0.2)
    assert not seen
    go_on()
    eventually(lambda: seen)
    assert seen[0] == 2


def test_a_drain_that_ends_lets_go_of_what_was_claimed_in_its_place(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.start()
    bench.submit()
    claim = bench.store.claim
    calls: list[Callable[[], None]] = []

    def away(*args: Any, **options: Any) -> Any:
        if threading.current_thread() is bench.drain:
            raise StoreUnavailable("away")
        return claim(*args, **options)

    class Between(logging.Handler):
        """Redis is back before the drain has ended."""

        def emit(self, record: logging.LogRecord) -> None:
            calls.append(bench.claim_slowly())

    released: list[int] = []
    monkeypatch.setattr(
        bench.engine, "release_quarantine", lambda: released.append(len(bench.engine.taken))
    )
    monkeypatch.setattr(bench.store, "claim", away)
    between = Between()
    log = logging.getLogger("workers.queue.claimer")
    log.addHandler(between)
    try:
        bench.claimer.look_again()
        eventually(lambda: calls)
        bench.drain.join(0.2)
        calls[0]()
        bench.drain.join(PATIENCE)
    finally:
        log.removeHandler(between)
    assert released and set(released) == {2}
    assert not bench.claimer.drain_id
