"""Usage: every ended job is counted once, in its tenant's day, however it ended."""

from collections import Counter
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shared.domain.records import Claim, Finish, NewJob, Requeue, new_job_id
from shared.domain.states import JobState
from shared.store.jobs import JobStore
from shared.store.usage import EPOCH, DailyUsage, read_usage
from tests.conftest import examples

TOKENS = ("prompt_tokens", "completion_tokens", "cached_tokens")


def submit(store: JobStore, tenant: str = "t", model: str = "m", **fields: Any) -> str:
    job = NewJob(new_job_id(), model, tenant, b"{}", **fields)
    store.create(job, max_queued=10_000)
    return job.id


def claim(store: JobStore, model: str = "m") -> Claim:
    [claimed] = store.claim(model, 1, "w").claims
    return claimed


def finish(claimed: Claim, state: JobState = JobState.SUCCEEDED, **used: float) -> Finish:
    return Finish(claimed.id, claimed.attempt, state, usage=msgspec.json.encode(used))


def only(store: JobStore) -> DailyUsage:
    [row] = read_usage(store, 2)
    return row


def test_an_ended_job_adds_to_its_day(store: JobStore) -> None:
    submit(store, "tenant with spaces")
    used = {"prompt_tokens": 5, "completion_tokens": 7, "cached_tokens": 2}
    store.write([finish(claim(store), **used, run_ms=1500.4, device_seconds=0.75)])

    row = only(store)
    assert row.day <= datetime.now(UTC).date()
    assert (row.tenant, row.model, row.jobs) == ("tenant with spaces", "m", {"succeeded": 1})
    assert (row.prompt_tokens, row.completion_tokens, row.cached_tokens) == (5, 7, 2)
    assert (row.run_seconds, row.device_seconds) == (1.5, 0.75)


def test_what_is_written_twice_counts_once(store: JobStore) -> None:
    submit(store)
    end = finish(claim(store), prompt_tokens=3, device_seconds=0.5)
    assert store.write([end, end]) == [1, 1]
    assert store.write([end]) == [1]
    assert only(store).jobs == {"succeeded": 1}
    assert only(store).prompt_tokens == 3


def test_a_fenced_end_counts_nothing(store: JobStore) -> None:
    job_id = submit(store)
    late = claim(store)
    store.write([Requeue(job_id, 1, "test")])
    store.write([finish(claim(store), device_seconds=1.0)])
    assert store.write([finish(late, device_seconds=9.0)]) == [0]
    assert only(store).device_seconds == 1.0


def test_attempts_that_were_given_back_are_part_of_the_whole(store: JobStore) -> None:
    job_id = submit(store)
    claim(store)
    store.write([Requeue(job_id, 1, "engine_error", charge="failures", device_seconds=0.25)])
    again = claim(store)
    assert again.device_seconds == 0.25
    store.write([Requeue(job_id, 2, "worker_stopping", device_seconds=0.5)])
    assert read_usage(store, 1) == [], "it has not ended yet"
    store.cancel(job_id)
    assert only(store).jobs == {"canceled": 1}
    assert only(store).device_seconds == 0.5, "also of a job that ended without a worker"


@pytest.mark.parametrize(
    "junk", [b"", b"null", b"[]", b"{", b'{"prompt_tokens":null,"run_ms":"x"}']
)
def test_a_usage_that_cannot_be_read_ends_the_job_all_the_same(
    store: JobStore, junk: bytes
) -> None:
    job_id = submit(store)
    claimed = claim(store)
    assert store.write([Finish(job_id, claimed.attempt, JobState.FAILED, usage=junk)]) == [1]
    assert only(store).jobs == {"failed": 1}
    assert only(store).prompt_tokens == 0


def test_a_usage_beyond_all_reason_ends_the_job_all_the_same(store: JobStore) -> None:
    job_id = submit(store)
    usage = b'{"completion_tokens":1e30,"run_ms":-5,"device_seconds":1e300}'
    end = Finish(job_id, claim(store).attempt, JobState.SUCCEEDED, b"1", usage=usage)
    assert store.write([end]) == [1]
    assert only(store).jobs == {"succeeded": 1}
    assert only(store).run_seconds == 0


def test_one_tenant_can_be_asked_for(store: JobStore) -> None:
    for tenant in ("a", "b"):
        submit(store, tenant)
        store.write([finish(claim(store))])
    assert [row.tenant for row in read_usage(store, 1)] == ["a", "b"]
    assert [row.tenant for row in read_usage(store, 1, "b")] == ["b"]


def test_what_the_version_before_counted_is_part_of_it(store: JobStore) -> None:
    for tenant in ("a", "b"):
        submit(store, tenant)
        store.write([finish(claim(store), prompt_tokens=5)])
    today = (datetime.now(UTC).date() - EPOCH).days
    for day, mine in ((today, 7), (today - 1, 1)):
        key = store.keys("usage", str(day))
        fields = {"succeeded m a": mine, "prompt_tokens m a": 10 * mine, "failed m c": 2}
        store.redis.hset(key, mapping=fields)
        store.redis.expire(key, 1000)

    rows = [(row.tenant, row.jobs, row.prompt_tokens) for row in read_usage(store, 2)]
    assert rows == [
        ("a", {"succeeded": 1}, 10),
        ("c", {"failed": 2}, 0),
        ("a", {"succeeded": 8}, 75),
        ("b", {"succeeded": 1}, 5),
        ("c", {"failed": 2}, 0),
    ]
    mine = [(row.jobs, row.prompt_tokens) for row in read_usage(store, 2, "a")]
    assert mine == [({"succeeded": 1}, 10), ({"succeeded": 8}, 75)]


def test_a_tenant_is_asked_for_without_a_look_at_the_others(store: JobStore) -> None:
    for n in range(50):
        submit(store, f"t{n}")
        store.write([finish(claim(store))])
    redis: Any = store.redis
    redis.config_resetstat()

    (row,) = read_usage(store, 30, "t7")

    calls = {name.decode() if isinstance(name, bytes) else name: stat["calls"]
             for name, stat in redis.info("commandstats").items()}  # fmt: skip
    assert row.jobs == {"succeeded": 1}
    assert (calls["cmdstat_hgetall"], calls["cmdstat_exists"]) == (30, 30)
    assert "cmdstat_hscan" not in calls and "cmdstat_smembers" not in calls


ENDS = st.sampled_from(["succeeded", "failed", "canceled early", "expired", "back, then done"])
JOBS = st.lists(
    st.tuples(
        st.sampled_from(["t1", "t2"]),
        st.sampled_from(["m1", "m2"]),
        ENDS,
        st.tuples(*(st.integers(0, 10_000) for _ in TOKENS)),
        st.integers(0, 10**9),
    ),
    max_size=12,
)


@settings(max_examples=examples(40), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(JOBS)
def test_the_sums_are_those_of_the_jobs(store: JobStore, jobs: list[Any]) -> None:
    for name in store.redis.scan_iter(f"{store.keys.prefix}:*"):
        store.redis.delete(name)
    expected: dict[tuple[str, str], Counter[str]] = {}
    for tenant, model, end, tokens, device_us in jobs:
        sums = expected.setdefault((tenant, model), Counter())
        sums[
            _end(store, tenant, model, end, dict(zip(TOKENS, tokens, strict=True)), device_us)
        ] += 1
        if end != "canceled early":
            sums.update(dict(zip(TOKENS, tokens, strict=True)))
            sums["device_us"] += device_us * (2 if end == "back, then done" else 1)

    rows = {(row.tenant, row.model): row for row in read_usage(store, 2)}
    assert rows.keys() == expected.keys()
    for pair, sums in expected.items():
        row = rows[pair]
        assert row.jobs == {s.value: sums[s.value] for s in JobState if sums[s.value]}
        assert all(getattr(row, name) == sums[name] for name in TOKENS)
        assert row.device_seconds == pytest.approx(sums["device_us"] / 1e6)


def _end(
    store: JobStore, tenant: str, model: str, end: str, tokens: dict[str, int], device_us: int
) -> str:
    job_id = submit(store, tenant, model)
    seconds = device_us / 1e6
    if end == "canceled early":
        store.cancel(job_id)
        return "canceled"
    claimed = claim(store, model)
    if end == "back, then done":
        store.write([Requeue(job_id, 1, "test", device_seconds=seconds)])
        claimed = claim(store, model)
        seconds = claimed.device_seconds + device_us / 1e6
    state = JobState(end) if end in set(JobState) else JobState.SUCCEEDED
    ending = finish(claimed, state, **tokens, device_seconds=seconds)
    store.write([ending])
    store.write([ending])
    return state.value
