"""No interleaving of submitters, drains, lost doorbells and dying workers leaves a job waiting for ever.

The scripts run against a real Redis in every order that hypothesis thinks of; workers are modelled as
the steps they take (claim, sign off), doorbells as a bag of messages.
"""

import secrets
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from shared.domain.records import Finish, NewJob, new_job_id
from shared.domain.states import JobState
from shared.store.jobs import JobStore
from tests.conftest import examples

MODEL = "m"


class RingProtocol(RuleBasedStateMachine):
    """At any moment: a job waits => a drain was called or knows of it, or a doorbell is under way."""

    store: JobStore
    drains = Bundle("drains")

    def __init__(self) -> None:
        super().__init__()
        self.store = JobStore(type(self).store.redis, f"ring-{secrets.token_hex(4)}", retention=60)
        self.doorbells = 0
        self.active: set[str] = set()
        self.called: set[str] = set()
        self.knowing: set[str] = set()
        self.pubsub: Any = self.store.redis.pubsub()
        self.pubsub.subscribe("nothing")
        self.lost = False
        self.names = 0
        self.rings = 0
        self.occasions = 1

    def _rung(self, ring: bool) -> None:
        self.doorbells += ring
        self.rings += ring

    @rule(ring_is_lost=st.booleans())
    def submit(self, ring_is_lost: bool) -> None:
        job = NewJob(new_job_id(), MODEL, "t", b"{}")
        created = self.store.create(job, max_queued=1000)
        if created.ring and ring_is_lost:
            self.rings += 1
            self.lost = True
        else:
            self._rung(created.ring)

    @rule(target=drains)
    @precondition(lambda self: self.doorbells > 0)
    def answer(self) -> str:
        self.doorbells -= 1
        self.names += 1
        name = f"d{self.names}"
        self.occasions += 1
        self.pubsub.subscribe(self.store.keys("rouse", name))
        self._listen()
        self.active.add(name)
        self._claim(name)
        return name

    @rule(drain=drains, room=st.integers(0, 2))
    def claim(self, drain: str, room: int) -> None:
        if drain in self.active:
            self._claim(drain, room)

    @rule(worker=st.sampled_from(["w1", "w2", "w3"]))
    def a_worker_reports(self, worker: str) -> None:
        self.store.beat(MODEL, worker, b"{}", [])

    @rule(drain=consumes(drains))
    def sign_off(self, drain: str) -> None:
        if drain not in self.active:
            return
        done, ring = self.store.sign_off(MODEL, drain, drain)
        self._rung(ring)
        if done:
            self._left(drain)
        else:
            self._claim(drain)

    @rule(drain=consumes(drains))
    def slice_is_over(self, drain: str) -> None:
        if drain in self.active:
            _, ring = self.store.sign_off(MODEL, drain, drain, force=True)
            self._rung(ring)
            self._left(drain)

    @rule(drain=consumes(drains))
    def dies(self, drain: str) -> None:
        if drain in self.active:
            self.store.redis.zrem(self.store.keys("drains", MODEL), drain)
            self._left(drain)
            self.lost = True

    @rule()
    def time_passes_and_the_rescuer_looks(self) -> None:
        self.store.redis.delete(self.store.keys("bell", MODEL))
        self._rung(self.store.rescue(MODEL).ring)
        self.lost = False
        self.occasions += 1

    def _left(self, drain: str) -> None:
        self.pubsub.unsubscribe(self.store.keys("rouse", drain))
        self._listen()
        for drains in (self.active, self.called, self.knowing):
            drains.discard(drain)
        self.occasions += 1

    def _listen(self) -> None:
        """Hear all that has been said so far."""
        self.pubsub.ping()
        while (message := self.pubsub.get_message(timeout=5)) is None or message["type"] != "pong":
            if message is not None and message["type"] == "message":
                self.called.add(message["channel"].decode().rpartition(":")[2])

    def _claim(self, drain: str, room: int = 2) -> None:
        self._listen()
        claimed = self.store.claim(MODEL, room, drain, drain=drain)
        self.called.discard(drain)
        self.knowing.discard(drain)
        if claimed.waiting or len(claimed.claims) >= room:
            # It looks again when it has room.
            self.knowing.add(drain)
        self._rung(claimed.ring)
        for claim in claimed.claims:
            self.store.write([Finish(claim.id, claim.attempt, JobState.SUCCEEDED)])

    @invariant()
    def somebody_will_come(self) -> None:
        self._listen()
        waiting = self.store.status(MODEL).waiting
        heard = self.active & (self.called | self.knowing)
        assert waiting == 0 or heard or self.doorbells or self.lost

    @invariant()
    def rings_are_few(self) -> None:
        """At most one at first, one after each drain's beginning and end, one after each marker's life."""
        assert self.rings <= self.occasions

    def teardown(self) -> None:
        self.pubsub.close()
        redis = self.store.redis
        names = list(redis.scan_iter(f"{self.store.keys.prefix}:*", count=1000))
        if names:
            redis.delete(*names)


@pytest.mark.explores
def test_a_waiting_job_is_never_forgotten(store: JobStore) -> None:
    RingProtocol.store = store
    run_state_machine_as_test(
        RingProtocol,
        settings=settings(
            max_examples=examples(60),
            stateful_step_count=40,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


def test_a_thousand_jobs_ring_once(store: JobStore) -> None:
    rings = 0
    for _ in range(1000):
        rings += store.create(NewJob(new_job_id(), MODEL, "t", b"{}"), max_queued=5000).ring
    assert rings == 1
