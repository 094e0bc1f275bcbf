"""A write that Redis refuses: whose it is, what becomes of it, and that the others go on."""

from collections.abc import Callable

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import NoPermissionError, ResponseError

from shared.domain.errors import StoreUnavailable
from shared.domain.records import Append, Finish, Write
from shared.domain.states import JobState
from shared.domain.write_results import WriteResult
from shared.redis.connection import connect
from shared.store.jobs import JobStore
from tests.conftest import RedisServer, eventually
from tests.workers.bench import Bench
from workers.execution.refused import LARGE, TRIES, Refusal, Writer

BIG = b"x" * LARGE
DONE = WriteResult.DONE
Fault = Callable[[list[Write]], Exception | None]


class Store:
    """Takes writes unless `fault` has something against them. `took`: those of each call that it answered."""

    def __init__(self, fault: Fault) -> None:
        self.fault = fault
        self.took: list[list[str]] = []
        self.calls = 0

    def write(self, writes: list[Write]) -> list[WriteResult]:
        self.calls += 1
        if (error := self.fault(writes)) is not None:
            if isinstance(error, RedisConnectionError):
                raise StoreUnavailable("away") from error
            raise error
        self.took.append([write.id for write in writes])
        return [DONE] * len(writes)


def said(job: str, seq: int = 1, data: bytes = b"{}") -> Append:
    return Append(job, 1, seq, "output", data)


def ends(job: str, output: bytes = b"{}") -> Finish:
    return Finish(job, 1, JobState.SUCCEEDED, output)


def holds(writes: list[Write], job: str) -> bool:
    return any(write.id == job for write in writes)


def large(writes: list[Write]) -> bool:
    return any(len(w.output) >= LARGE for w in writes if isinstance(w, Finish)) or any(
        len(w.data) >= LARGE for w in writes if isinstance(w, Append)
    )


def test_what_is_refused_by_its_size_fails_alone_and_the_others_are_written() -> None:
    store = Store(
        lambda w: ResponseError("Protocol error: invalid bulk length") if large(w) else None
    )
    writes = [said("a"), ends("a"), said("b"), ends("b", BIG), ends("c")]

    assert Writer(store.write).write(writes) == [DONE, DONE, DONE, Refusal.TOO_LARGE, DONE]
    assert {job for took in store.took for job in took} == {"a", "b", "c"}


def test_after_an_event_that_is_too_large_nothing_of_its_attempt_is_written() -> None:
    store = Store(lambda w: ResponseError("max request size exceeded") if large(w) else None)
    writes = [said("a", 1), said("a", 2, BIG), said("a", 3), ends("a")]

    assert Writer(store.write).write(writes) == [DONE, *[Refusal.TOO_LARGE] * 3]


def test_writes_that_are_too_many_for_one_request_go_one_by_one() -> None:
    store = Store(lambda w: ResponseError("max request size exceeded") if len(w) > 1 else None)
    assert Writer(store.write).write([ends("a"), ends("b")]) == [DONE, DONE]


def test_a_large_write_at_which_the_connection_ends_is_given_up_after_a_few_tries() -> None:
    store = Store(lambda w: RedisConnectionError("reset") if large(w) else None)
    writer = Writer(store.write)
    for _ in range(TRIES - 1):
        with pytest.raises(StoreUnavailable):
            writer.write([ends("a"), ends("b", BIG)])
    assert writer.write([ends("a"), ends("b", BIG)]) == [DONE, Refusal.TOO_LARGE]


def test_while_redis_is_away_for_all_nothing_is_given_up() -> None:
    writer = Writer(Store(lambda _: RedisConnectionError("refused")).write)
    for _ in range(3 * TRIES):
        with pytest.raises(StoreUnavailable):
            writer.write([ends("a", BIG)])


@pytest.mark.parametrize("output", [b"{}", BIG])
def test_one_attempt_that_redis_refuses_for_another_reason_is_told_apart(output: bytes) -> None:
    wrong = ResponseError("WRONGTYPE Operation against a key holding the wrong kind of value")
    store = Store(lambda w: wrong if holds(w, "b") else None)

    writes = [ends("a"), ends("b", output), ends("c")]
    assert Writer(store.write).write(writes) == [DONE, Refusal.REFUSED, DONE]


def test_where_redis_refuses_all_it_is_as_if_it_were_away() -> None:
    store = Store(lambda _: NoPermissionError("this user has no permissions to run 'evalsha'"))
    with pytest.raises(StoreUnavailable, match="refuses every write: this user has no permissions"):
        Writer(store.write).write([ends("a"), ends("b")])
    assert store.calls < 6


def test_on_a_real_redis_the_job_fails_once_and_the_one_behind_it_succeeds(
    own_redis: RedisServer,
) -> None:
    redis = connect(own_redis.url, 1.0)
    redis.config_set("proto-max-bulk-len", 1024 * 1024)
    bench = Bench(JobStore(redis, "large", retention=60, lease=5.0))
    big, small = bench.submit("blob 3000000"), bench.submit("fine")
    # Redis closes the connection that brought too much, and the pool may hand it out once more.
    own = connect(own_redis.url, 1.0)
    seen = JobStore(own, "large", retention=60, lease=5.0)
    eventually(lambda: seen.get(big).terminal and seen.get(small).terminal, what="both end")
    failed = seen.get(big).job()

    assert seen.get(small).state is JobState.SUCCEEDED
    assert (failed.status, failed.attempt) == (JobState.FAILED, 1)
    assert failed.error is not None
    assert (failed.error.code, failed.error.retryable) == ("output_too_large", False)
    eventually(lambda: (big, "failed") in bench.diary.ends, what="its end is told")
    assert seen.status("m").breaker.failures == 0
    own.close()
    bench.stop()
    redis.close()


def test_a_job_whose_keys_are_not_ours_does_not_spin(own_redis: RedisServer) -> None:
    redis = connect(own_redis.url, 1.0)
    bench = Bench(JobStore(redis, "wrong", retention=60, lease=5.0))
    bench.rescuer.stop()
    odd = bench.submit("slow 300")
    log = bench.store.keys("log", odd)
    eventually(lambda: redis.exists(log), what="it has spoken")
    redis.delete(log)
    redis.set(log, "somebody else's", ex=60)

    eventually(lambda: (odd, "fenced") in bench.diary.ends, what="the attempt is let go")
    assert bench.ended(bench.submit("fine")).status is JobState.SUCCEEDED
    assert bench.store.get(odd).fields["attempt"] == "1"
    bench.stop()
    redis.close()
