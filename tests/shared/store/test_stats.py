"""Statistics: what the scripts count, and percentiles that are right to 5 %."""

from hypothesis import given
from hypothesis import strategies as st

from shared.domain.records import Finish, NewJob, new_job_id
from shared.domain.states import JobState
from shared.store.jobs import JobStore
from shared.store.stats import GAMMA, Percentiles, percentiles, read_stats

ERROR = (GAMMA - 1) / (GAMMA + 1)


def bucket(milliseconds: float) -> int:
    number = 0
    while GAMMA**number < max(1.0, milliseconds) - 1e-9:
        number += 1
    return number


@given(st.lists(st.floats(1, 86_400_000), min_size=1, max_size=40))
def test_percentiles_are_right_to_five_percent(durations: list[float]) -> None:
    buckets: dict[int, int] = {}
    for duration in durations:
        buckets[bucket(duration)] = buckets.get(bucket(duration), 0) + 1

    found = percentiles(buckets)

    ordered = sorted(durations)
    for told, share in ((found.p50, 0.5), (found.p95, 0.95), (found.p99, 0.99)):
        exact = ordered[int(share * (len(ordered) - 1))]
        assert told is not None
        assert abs(told - exact) <= ERROR * exact * 1.001 + 0.01


def test_nothing_has_no_percentiles() -> None:
    assert percentiles({}) == Percentiles(None, None, None)


def test_every_end_is_counted_where_it_is_written(store: JobStore) -> None:
    ids = [new_job_id() for _ in range(4)]
    for job_id in ids:
        store.create(NewJob(job_id, "m", "t", b"{}"), max_queued=10)
    store.cancel(ids[3])
    store.claim("m", 3, "w")
    usage = b'{"prompt_tokens":3,"completion_tokens":20}'
    done = [Finish(job_id, 1, JobState.SUCCEEDED, usage=usage) for job_id in ids[:2]]
    store.write([*done, *done, Finish(ids[2], 1, JobState.FAILED)])

    seen, unseen = read_stats(store.redis, store.keys, ["m", "other"])

    assert dict(seen.ended) == {"succeeded": 2, "failed": 1, "canceled": 1}
    assert seen.tokens == 40, "a repeated write counts once"
    assert 300 <= seen.seconds < 360
    assert seen.latency.p50 is not None and seen.latency.p50 > 0
    assert seen.queue_wait.p99 is not None
    assert (unseen.ended, unseen.tokens, unseen.latency.p50) == ({}, 0, None)


def test_the_store_counts_in_the_buckets_that_are_read(store: JobStore) -> None:
    job_id = new_job_id()
    store.create(NewJob(job_id, "m", "t", b"{}"), max_queued=10)
    created = int(store.get(job_id).fields["created"])
    store.redis.hset(store.keys("job", job_id), "created", created - 7_000)
    store.claim("m", 1, "w")
    store.write([Finish(job_id, 1, JobState.SUCCEEDED)])
    fields = store.get(job_id).fields
    latency = int(fields["finished"]) - int(fields["created"])

    [stats] = read_stats(store.redis, store.keys, ["m"])

    assert stats.latency.p50 is not None
    assert abs(stats.latency.p50 - latency) <= ERROR * latency + 0.01
