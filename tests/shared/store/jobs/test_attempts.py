"""Attempts of jobs: claims in their order, writes and their fence, ends, and what a repeated call does."""

import threading
from collections import Counter

import pytest

from shared.domain.errors import InputGone, StoreUnavailable
from shared.domain.records import Append, Finish, Requeue
from shared.domain.states import JobState
from shared.domain.write_results import LeaseResult, WriteResult
from shared.redis.connection import connect
from shared.store.jobs import CLAIM_VALUES, JobStore, attempts
from tests.conftest import RedisServer, eventually
from tests.shared.store.jobs.jobs import MODEL, claim, kinds, submit


def test_a_job_runs_and_succeeds(store: JobStore) -> None:
    job_id = submit(store, metadata={"k": "v"}).id
    [held] = claim(store)
    results = store.write(
        [
            Append(job_id, 1, 1, "token", b'{"text":"a","index":0}', "7"),
            Finish(job_id, 1, JobState.SUCCEEDED, b'{"text":"a"}', b"", b'{"attempts":1}'),
        ]
    )
    job = store.get(job_id).job()
    assert held.id == job_id and held.attempt == 1
    assert results == [WriteResult.DONE] * 2
    assert (job.status, job.output, job.metadata) == ("succeeded", {"text": "a"}, {"k": "v"})
    assert job.usage is not None and job.usage.attempts == 1
    assert kinds(store, job_id) == [
        ("0-1", "status"),
        ("1-0", "status"),
        ("1-1", "token"),
        ("1-2", "done"),
    ]


def test_a_job_whose_input_was_at_fault_cannot_be_tried_again(store: JobStore) -> None:
    job_id = submit(store).id
    claim(store)
    store.write([Finish(job_id, 1, JobState.FAILED, error=b'{"code":"invalid_input"}')])
    with pytest.raises(InputGone):
        store.retry(job_id, "t", max_queued=10)
    assert store.get(job_id).state is JobState.FAILED, "its record and its error stay"


def test_every_write_may_be_repeated(store: JobStore) -> None:
    job_id = submit(store).id
    claim(store)
    append = Append(job_id, 1, 1, "token", b"{}")
    finish = Finish(job_id, 1, JobState.SUCCEEDED, b"1")
    assert store.write([append, append, finish, finish]) == [WriteResult.DONE] * 4
    assert [kind for _, kind in kinds(store, job_id)].count("done") == 1


def test_of_two_workers_with_the_same_attempt_the_one_goes_on_that_redis_knows(
    store: JobStore,
) -> None:
    """Redis has forgotten the first one's claim, and handed the attempt out anew."""
    job_id = submit(store).id
    claim(store, worker="now")
    end = Finish(job_id, 1, JobState.SUCCEEDED, b'{"text":"a"}', seq=1)
    assert store.commit([end], None, "before").results == [WriteResult.FENCED]
    assert store.commit([end], None, "now").results == [WriteResult.DONE]


def test_an_end_is_refused_where_an_event_before_it_is_missing(store: JobStore) -> None:
    job_id = submit(store).id
    claim(store)
    for end in (
        Finish(job_id, 1, JobState.SUCCEEDED, b'{"text":"a"}', seq=2),
        Requeue(job_id, 1, "worker_stopping", seq=2),
    ):
        assert store.write([end]) == [WriteResult.MISSING_EVENT]
    text = Append(job_id, 1, 1, "token", b'{"text":"a","index":0}')
    end = Finish(job_id, 1, JobState.SUCCEEDED, b'{"text":"a"}', seq=2)
    assert store.write([text, end]) == [WriteResult.DONE] * 2


def test_a_stale_attempt_is_fenced_everywhere(store: JobStore) -> None:
    job_id = submit(store).id
    claim(store)
    store.write([Requeue(job_id, 1, "test")])
    claim(store)
    stale = [
        Append(job_id, 1, 9, "token", b"{}"),
        Finish(job_id, 1, JobState.FAILED),
        Requeue(job_id, 1, "late"),
    ]
    assert store.write(stale) == [WriteResult.FENCED] * 3
    assert store.beat(MODEL, "w", b"{}", [(job_id, 1), (job_id, 2)]).results == [
        LeaseResult.LOST,
        LeaseResult.RENEWED,
    ]
    assert store.get(job_id).state is JobState.RUNNING


def test_an_append_that_skips_an_event_is_refused(store: JobStore) -> None:
    job_id = submit(store).id
    claim(store)
    assert store.write([Append(job_id, 1, 2, "token", b"{}")]) == [WriteResult.MISSING_EVENT]


def test_two_outcomes_race_and_one_wins(store: JobStore) -> None:
    job_id = submit(store).id
    claim(store)
    assert store.write([Finish(job_id, 1, JobState.CANCELED)]) == [WriteResult.DONE]
    assert store.write([Finish(job_id, 1, JobState.SUCCEEDED)]) == [WriteResult.FENCED]
    assert store.get(job_id).state is JobState.CANCELED


def test_classes_come_first_then_age(store: JobStore) -> None:
    ids = [submit(store, priority=p).id for p in ("low", "normal", "high", "normal", "high")]
    assert [c.id for c in claim(store, 5)] == [ids[2], ids[4], ids[1], ids[3], ids[0]]


def test_tenants_take_turns(store: JobStore) -> None:
    for _ in range(20):
        submit(store, "greedy")
    for _ in range(3):
        submit(store, "modest")
    order = [c.tenant for c in claim(store, 8)]
    assert order.count("modest") == 3
    assert set(order[:2]) == {"greedy", "modest"}


def test_a_tenant_that_comes_one_by_one_starves_nobody(store: JobStore) -> None:
    for _ in range(20):
        submit(store, "backlog")
    served = []
    for _ in range(20):
        submit(store, "trickle")
        served += [c.tenant for c in claim(store, 2)]
    assert min(Counter(served).values()) >= 15


def test_a_job_given_back_stands_at_the_front(store: JobStore) -> None:
    first, _ = submit(store).id, submit(store).id
    claim(store)
    store.write([Requeue(first, 1, "test")])
    assert claim(store)[0].id == first


def test_claims_repeat_after_a_lost_answer(store: JobStore) -> None:
    ids = {submit(store).id for _ in range(4)}
    script = store._scripts["claim"]
    args = (MODEL, 4, 2**53, "w", "", 1000, 5000, 60, "token")
    first, again = script(args=args), script(args=args)
    assert {name.decode() for name in first[5::CLAIM_VALUES]} == ids
    assert first[5:] == again[5:]


def test_no_job_is_handed_out_twice(store: JobStore) -> None:
    for _ in range(200):
        submit(store)
    taken: list[str] = []

    def work() -> None:
        while got := claim(store, 7):
            taken.extend(c.id for c in got)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(taken) == len(set(taken)) == 200


def test_a_waiting_job_is_canceled_at_once(store: JobStore) -> None:
    job_id = submit(store).id
    assert store.cancel(job_id, "t") is JobState.CANCELED
    assert store.cancel(job_id, "t") is JobState.CANCELED
    assert claim(store) == [] and store.status(MODEL).waiting == 0


def test_a_running_job_is_canceled_by_its_worker(store: JobStore) -> None:
    job_id = submit(store).id
    claim(store)
    assert store.cancel(job_id, "t") is JobState.RUNNING
    assert store.get(job_id).job().cancel_requested
    assert store.write([Append(job_id, 1, 1, "token", b"{}")]) == [WriteResult.CANCEL_REQUESTED]
    assert store.beat(MODEL, "w", b"{}", [(job_id, 1)]).results == [LeaseResult.CANCEL_REQUESTED]


def test_scripts_survive_a_flush_and_redis_away_is_said_so(own_redis: RedisServer) -> None:
    store = JobStore(connect(own_redis.url, 0.5), "p", retention=60)
    # By default the last seconds may be lost with the server, where the disk is slow.
    store.redis.config_set("appendfsync", "always")
    job_id = submit(store).id
    claim(store)
    store.redis.script_flush()
    assert store.write([Append(job_id, 1, 1, "token", b"{}")]) == [WriteResult.DONE]
    own_redis.stop()
    with pytest.raises(StoreUnavailable):
        store.get(job_id)
    with pytest.raises(StoreUnavailable):
        store.write([Append(job_id, 1, 2, "token", b"{}")])
    own_redis.start()
    eventually(lambda: store.get(job_id).state is JobState.RUNNING)


def test_a_job_behind_very_many_that_are_past_their_deadline_is_handed_out(store: JobStore) -> None:
    for _ in range(300):
        submit(store, "late", expires_in=0.001)
    living = submit(store, "other", priority="low")
    past = store.claim(MODEL, 4, "w")
    assert past.claims == [] and past.waiting > 0, "one call does not end all of them"
    assert [one.id for one in claim(store)] == [living.id]


def test_one_call_hands_out_no_more_than_a_script_can_take(
    store: JobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attempts, "MOST_CLAIMED", 2)
    jobs = [submit(store).id for _ in range(3)]
    assert [one.id for one in claim(store, 10_000)] == jobs[:2]
    assert [one.id for one in claim(store, 10_000)] == jobs[2:]
