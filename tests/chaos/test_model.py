"""The scripts do in every interleaving what a pure model of them says, with several workers at it."""

import json
import secrets
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    initialize,
    invariant,
    multiple,
    precondition,
    rule,
    run_state_machine_as_test,
)

from shared.domain.creation import Cached, Created, Followed
from shared.domain.records import Append, Finish, NewJob, Requeue, new_job_id
from shared.domain.sharing import Share
from shared.domain.states import TERMINAL, JobState
from shared.store.events import EventLog
from shared.store.jobs import JobStore
from shared.store.lua_constants import REPLY_PREFIX
from tests.chaos.model import CLASSES, Model
from tests.conftest import examples

MODEL = "m"
DELAY = 3600.0
PAST = 1
RESULT = b'{"text":"z"}'
HANDLES = Bundle("handles")
ENDS = st.sampled_from(sorted(TERMINAL))


class StoreAgainstModel(RuleBasedStateMachine):
    """Handles are (id, attempt) as a worker got them, kept for ever: most are stale, as a late worker's."""

    store: JobStore
    handles = HANDLES

    def __init__(self) -> None:
        super().__init__()
        redis = type(self).store.redis
        self.store = JobStore(redis, f"model-{secrets.token_hex(4)}", retention=60, lease=60.0)
        self.model = Model()

    @initialize(keeps=st.booleans())
    def begin(self, keeps: bool) -> None:
        self.model.keeps = keeps

    @rule(
        priority=st.sampled_from(("normal", "normal", *CLASSES)),
        twice=st.booleans(),
        shared=st.sampled_from((True, True, False)),
        awaited=st.booleans(),
    )
    def create(self, priority: str, twice: bool, shared: bool, awaited: bool) -> None:
        """`awaited`: by who waits for its end alone, so that it may run without a log."""
        share = Share("d", 60 * self.model.keeps, 100, speaks=True) if shared else None
        job = NewJob(new_job_id(), MODEL, "t", b"{}", priority=priority, share=share)  # type: ignore[arg-type]
        channel = f"{REPLY_PREFIX}api" if awaited else ""
        created = self.store.create(job, max_queued=1000, reply_channel=channel)
        if twice:
            again = self.store.create(job, max_queued=1000, reply_channel=channel)
            assert isinstance(again, Cached) == isinstance(created, Cached)
        how = {Cached: "cached", Followed: "follows", Created: "created"}[type(created)]
        assert how == self.model.create(job.id, job.priority, shared=shared)

    @rule(target=HANDLES, room=st.integers(1, 3), worker=st.sampled_from("ab"))
    @precondition(lambda self: self.model.lane)
    def claim(self, room: int, worker: str):  # type: ignore[no-untyped-def]
        # A retry that is due would be taken in by the claim; here only `rescue` lets time pass.
        claimed = self.store.claim(MODEL, room, worker)
        got = [(claim.id, claim.attempt) for claim in claimed.claims]
        assert got == self.model.claim(room)
        assert claimed.waiting == len(self.model.lane)
        return multiple(*got)

    @rule(handle=HANDLES, skew=st.sampled_from((0, 0, 0, -1, 1)))
    def append(self, handle: tuple[str, int], skew: int) -> None:
        """The next event, one that is there already, or one that skips another."""
        seq = max(1, self.model.jobs[handle[0]].next_seq + skew)
        [result] = self.store.write([Append(*handle, seq, "token", b'{"text":"x"}')])
        assert result == self.model.append(*handle, seq, "x")

    @rule(handle=HANDLES, end=ENDS)
    def finish(self, handle: tuple[str, int], end: JobState) -> None:
        [result] = self.store.write([Finish(*handle, end, RESULT)])
        assert result == self.model.finish(*handle, end, "z")

    @rule(handle=HANDLES, end=ENDS)
    def say_and_finish_in_one_write(self, handle: tuple[str, int], end: JobState) -> None:
        seq = self.model.jobs[handle[0]].next_seq
        append = Append(*handle, seq, "token", b'{"text":"y"}')
        results = self.store.write([append, Finish(*handle, end, RESULT)])
        told = self.model.append(*handle, seq, "y")
        assert results == [told, self.model.finish(*handle, end, "z")]

    @rule(
        handle=HANDLES,
        charge=st.sampled_from(("", "failures", "crashes")),
        delayed=st.booleans(),
    )
    def requeue(self, handle: tuple[str, int], charge: str, delayed: bool) -> None:
        delay = DELAY if delayed else 0.0
        [result] = self.store.write([Requeue(*handle, "broke", delay, charge)])  # type: ignore[arg-type]
        assert bool(result) == self.model.requeue(*handle, charge, delayed=delayed)

    @rule(handle=HANDLES)
    def beat(self, handle: tuple[str, int]) -> None:
        [result] = self.store.beat(MODEL, "a", b"{}", [handle]).results
        assert result == self.model.beat(*handle)

    @rule(data=st.data())
    @precondition(lambda self: self.model.jobs)
    def cancel(self, data: st.DataObject) -> None:
        job_id = data.draw(st.sampled_from(sorted(self.model.jobs)))
        assert self.store.cancel(job_id) == self.model.cancel(job_id)

    @rule(data=st.data())
    @precondition(lambda self: self.model.jobs)
    def somebody_reads(self, data: st.DataObject) -> None:
        self.store.log_events(data.draw(st.sampled_from(sorted(self.model.jobs))))

    @rule(data=st.data())
    @precondition(lambda self: self.model.running)
    def lease_lapses(self, data: st.DataObject) -> None:
        job = data.draw(st.sampled_from(self.model.running))
        self.store.redis.zadd(self.store.keys("leases", MODEL), {job.id: PAST})
        job.lapsed = True

    @rule(data=st.data())
    @precondition(lambda self: self.model.jobs)
    def deadline_passes(self, data: st.DataObject) -> None:
        job = self.model.jobs[data.draw(st.sampled_from(sorted(self.model.jobs)))]
        if job.state in TERMINAL:
            return
        self.store.redis.hset(self.store.keys("job", job.id), "deadline", PAST)
        self.store.redis.zadd(self.store.keys("deadlines", MODEL), {job.id: PAST})
        job.overdue = True

    @rule()
    def rescue(self) -> None:
        redis: Any = self.store.redis
        due = self.store.keys("due", MODEL)
        for name in redis.zrange(due, 0, -1):
            redis.zadd(due, {name: PAST})
        self.store.rescue(MODEL)
        self.model.rescue()

    @invariant()
    def records_and_logs_are_as_the_model_says(self) -> None:
        for job in self.model.jobs.values():
            record = self.store.get(job.id)
            fields = record.fields
            assert (record.state, int(fields["attempt"])) == (job.state, job.attempt)
            counts = int(fields["failures"]), int(fields["crashes"])
            assert counts == (job.failures, job.crashes)
            events = EventLog(self.store.redis, self.store.keys).read(job.id)
            said = [(str(event.id), event.kind) for event in events]
            assert said == job.log and record.head == said[-1][0]
            told = [json.loads(event.data)["text"] for event in events if event.kind == "token"]
            assert "".join(told) == job.text
            assert record.job().cached is job.cached

    @invariant()
    def queue_and_leases_are_as_the_model_says(self) -> None:
        redis: Any = self.store.redis
        keys = self.store.keys
        status = self.store.status(MODEL)
        assert status.waiting == len(self.model.lane)
        lanes = [
            name.decode()
            for priority in CLASSES
            for name in redis.zrange(keys("lane", MODEL, priority, "t"), 0, -1)
        ]
        assert lanes == [job.id for job in self.model.lane]
        leases = {name.decode() for name in redis.zrange(keys("leases", MODEL), 0, -1)}
        assert leases == {job.id for job in self.model.running}

    def teardown(self) -> None:
        names = list(self.store.redis.scan_iter(f"{self.store.keys.prefix}:*", count=1000))
        if names:
            self.store.redis.delete(*names)


@pytest.mark.explores
def test_the_scripts_do_what_the_model_says(store: JobStore) -> None:
    StoreAgainstModel.store = store
    run_state_machine_as_test(
        StoreAgainstModel,
        settings=settings(
            max_examples=examples(70),
            stateful_step_count=40,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
