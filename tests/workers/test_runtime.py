"""A worker's claims run, stream, end, retry, cancel, drain."""

import secrets
import signal
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import msgspec
import pytest

from shared.domain.models.catalog import Breaker
from shared.domain.records import NewJob, new_job_id
from shared.domain.states import JobState
from shared.files import open_storage
from shared.redis.connection import connect
from shared.store.events import EventHub, follow_all
from shared.store.files import Files, Room
from shared.store.jobs import JobStore
from shared.store.usage import read_usage
from tests.conftest import RedisServer, eventually, store_of
from tests.workers.bench import MODEL, Bench
from workers.execution.output_files import OutputFiles
from workers.host_protocol.messages import Cancel, Command, Submit


@pytest.fixture
def start(store: JobStore) -> Iterator[Callable[..., Bench]]:
    benches: list[Bench] = []

    def make(**options: object) -> Bench:
        benches.append(Bench(store, **options))  # type: ignore[arg-type]
        return benches[-1]

    yield make
    for bench in benches:
        bench.stop()


@pytest.fixture(scope="module")
def one_bench(redis_server: RedisServer) -> Iterator[Bench]:
    with store_of(redis_server.url, f"test-{secrets.token_hex(4)}") as store:
        bench = Bench(store, breaker=Breaker(failure_threshold=1000, minimum_volume=1000))
        yield bench
        bench.stop()


@pytest.fixture
def bench(one_bench: Bench) -> Iterator[Bench]:
    """A worker that is ready and idle. The tests of this file share it: each start costs most of a second."""
    yield one_bench
    executor = one_bench.runtime.executor
    eventually(lambda: executor.ready and executor.active == 0, what="the next test finds it idle")


def log_text(store: JobStore, job_id: str) -> str:
    return store.streamed(job_id)[0]


def test_jobs_run_and_their_stream_equals_their_output(bench: Bench) -> None:
    ids = [bench.submit("slow 30") for _ in range(12)]
    for job_id in ids:
        job = bench.ended(job_id)
        assert job.status is JobState.SUCCEEDED
        assert isinstance(job.output, dict)
        assert log_text(bench.store, job_id) == job.output["text"]
        assert job.usage is not None and job.usage.attempts == 1 and job.usage.run_ms


def test_a_host_knows_tenants_apart_and_not_by_name(bench: Bench) -> None:
    outputs = [bench.ended(bench.submit("salt", tenant)).output for tenant in ("a", "b", "a")]

    salts = [output["text"] for output in outputs if isinstance(output, dict)]
    assert salts[0] == salts[2] != salts[1]
    assert all(len(salt) == 32 for salt in salts)


def test_usage_tells_device_time_over_all_attempts_and_the_first_token(bench: Bench) -> None:
    tried = bench.ended(bench.submit("break", "metered")).usage
    spoke = bench.ended(bench.submit("slow 10", "metered")).usage
    assert tried is not None and spoke is not None
    assert tried.attempts == 3 and tried.device_seconds and tried.first_token_ms is None
    assert spoke.device_seconds and spoke.first_token_ms and spoke.run_ms
    assert spoke.first_token_ms <= (spoke.queue_ms or 0) + spoke.run_ms
    eventually(lambda: read_usage(bench.store, 2, "metered"), what="the day's sums")
    [day] = read_usage(bench.store, 2, "metered")
    assert day.jobs == {"failed": 1, "succeeded": 1}
    assert day.device_seconds == pytest.approx(
        tried.device_seconds + spoke.device_seconds, abs=2e-6
    )


def test_a_full_worker_rings_for_an_idle_one(start: Callable[..., Bench]) -> None:
    bench = start()
    full = [bench.submit("slow 400") for _ in range(8)]
    eventually(lambda: bench.runtime.executor.room() == 0, what="the worker is full")
    rings = len(bench.threads)
    bench.store.beat(MODEL, "idle", b"{}", [])
    bench.submit("one too many")
    eventually(lambda: len(bench.threads) > rings, what="the idle worker is rung for")
    for job_id in full:
        bench.store.cancel(job_id)


def test_a_drain_ends_and_the_next_job_rings_again(bench: Bench) -> None:
    bench.ended(bench.submit("one"))
    eventually(lambda: not any(t.is_alive() for t in bench.threads))
    assert bench.ended(bench.submit("two")).status is JobState.SUCCEEDED


def test_jobs_whose_doorbells_are_all_lost_are_pulled_all_the_same(
    start: Callable[..., Bench],
) -> None:
    bench = start()
    bench.rescuer.stop()
    bench.ring = lambda: None  # type: ignore[method-assign]
    bench.runtime._ring = lambda: None
    bench.store.lease = 0.3
    job_id = bench.submit("never rung")
    assert bench.ended(job_id).status is JobState.SUCCEEDED


def test_a_worker_that_lets_jobs_wait_says_that_it_is_unhealthy(
    start: Callable[..., Bench], monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = start()
    bench.rescuer.stop()
    bench.ring = lambda: None  # type: ignore[method-assign]
    bench.runtime._ring = lambda: None
    bench.store.lease = 0.3
    monkeypatch.setattr(bench.runtime.claimer, "drain", lambda: 0)
    bench.submit("never taken")

    def state() -> str:
        [report] = bench.store.status(MODEL).workers.values() or [{"state": "none"}]
        return str(report["state"])

    eventually(lambda: state() == "unhealthy")


def test_bad_input_fails_alone_and_is_not_retried(bench: Bench) -> None:
    good, bad = bench.submit("slow 20"), bench.submit("refuse")
    failed = bench.ended(bad)
    assert failed.status is JobState.FAILED and failed.attempt == 1
    assert failed.error is not None and failed.error.code == "invalid_input"
    assert bench.ended(good).status is JobState.SUCCEEDED


def test_a_failing_job_is_tried_three_times(bench: Bench) -> None:
    job = bench.ended(bench.submit("break"))
    assert job.status is JobState.FAILED and job.attempt == 3
    assert job.error is not None and job.error.code == "engine_error"


def test_poison_ends_alone_and_costs_the_others_no_attempt(bench: Bench) -> None:
    good = [bench.submit("slow 60") for _ in range(5)]
    eventually(lambda: log_text(bench.store, good[-1]))
    poison = bench.ended(bench.submit("raise"))
    assert poison.status is JobState.FAILED and poison.attempt == 1
    assert poison.error is not None and poison.error.code == "poison_input"
    for job_id in good:
        job = bench.ended(job_id)
        assert job.status is JobState.SUCCEEDED and job.attempt == 1
        assert isinstance(job.output, dict)
        assert log_text(bench.store, job_id) == job.output["text"]


def test_a_job_that_kills_its_host_ends_after_three_crashes(bench: Bench) -> None:
    job = bench.ended(bench.submit("segfault"))
    assert job.status is JobState.FAILED and job.attempt == 3
    assert job.error is not None and job.error.code == "worker_crashed"
    assert bench.ended(bench.submit("fine")).status is JobState.SUCCEEDED


def test_a_killed_host_continues_the_text_without_a_seam(bench: Bench) -> None:
    job_id = bench.submit("slow 200")
    eventually(lambda: len(log_text(bench.store, job_id)) > 20)
    bench.runtime.executor.engine.kill("test")
    job = bench.ended(job_id)
    assert isinstance(job.output, dict)
    assert job.attempt == 2 and log_text(bench.store, job_id) == job.output["text"]
    kinds = [
        fields[b"e"] for _, fields in bench.store.redis.xrange(bench.store.keys("log", job_id))
    ]
    assert b"reset" not in kinds and kinds.count(b"done") == 1


def test_an_engine_that_cannot_continue_resets(start: Callable[..., Bench]) -> None:
    bench = start(continues=False)
    job_id = bench.submit("slow 200")
    eventually(lambda: len(log_text(bench.store, job_id)) > 20)
    bench.runtime.executor.engine.kill("test")
    job = bench.ended(job_id)
    assert isinstance(job.output, dict)
    assert log_text(bench.store, job_id) == job.output["text"]
    entries = bench.store.redis.xrange(bench.store.keys("log", job_id))
    assert [f[b"e"] for _, f in entries].count(b"reset") == 1


def test_a_running_job_is_canceled_between_two_steps(bench: Bench) -> None:
    job_id = bench.submit("slow 100000")
    eventually(lambda: log_text(bench.store, job_id))
    assert bench.store.cancel(job_id) is JobState.RUNNING
    assert bench.ended(job_id).status is JobState.CANCELED
    eventually(lambda: bench.runtime.executor.active == 0)


def test_a_deadline_frees_the_slot(bench: Bench) -> None:
    job = bench.ended(bench.submit("slow 100000", expires_in=0.3))
    assert job.status is JobState.EXPIRED
    assert bench.runtime.executor.active == 0


def test_a_fenced_attempt_is_dropped(bench: Bench) -> None:
    job_id = bench.submit("slow 400")
    eventually(lambda: log_text(bench.store, job_id))
    bench.store.redis.zadd(bench.store.keys("leases", MODEL), {job_id: 1})
    job = bench.ended(job_id)
    assert job.attempt == 2 and job.status is JobState.SUCCEEDED
    assert (job_id, "fenced") in bench.diary.ends
    assert isinstance(job.output, dict)
    assert log_text(bench.store, job_id) == job.output["text"]


def test_stopping_gives_back_what_does_not_fit_uncharged(start: Callable[..., Bench]) -> None:
    bench = start(drain_time=2.0)
    long, short = bench.submit("slow 100000"), bench.submit("slow 10")
    eventually(lambda: log_text(bench.store, long))
    eventually(lambda: bench.store.get(short).state is not JobState.QUEUED, what="short is claimed")
    bench.rescuer.stop()
    bench.runtime.stop()
    record = bench.store.get(long)
    assert record.state is JobState.QUEUED
    assert (record.fields["failures"], record.fields["crashes"]) == ("0", "0")
    assert bench.store.get(short).state is JobState.SUCCEEDED
    assert bench.store.status(MODEL).workers == {}


def test_what_a_stopping_worker_gives_back_is_never_canceled(start: Callable[..., Bench]) -> None:
    """Even by an engine that lets go of a job before the worker has looked at the next one."""
    bench = start(drain_time=0.1)
    job_id = bench.submit("slow 100000")
    eventually(lambda: log_text(bench.store, job_id))
    engine, executor = bench.runtime.executor.engine, bench.runtime.executor
    send = engine.send

    def answered_at_once(commands: Sequence[Command]) -> bool:
        sent = send(commands)
        if any(isinstance(command, Cancel) for command in commands):
            eventually(lambda: not executor.active, what="the engine has let go")
        return sent

    engine.send = answered_at_once  # type: ignore[method-assign]
    bench.rescuer.stop()
    bench.runtime.stop()
    assert bench.store.get(job_id).state is JobState.QUEUED
    assert bench.diary.ends == [(job_id, "retried")]


def test_live_readers_see_every_event_once(bench: Bench) -> None:
    hub = EventHub(bench.store.redis, bench.store.keys)
    hub.start()
    job_id = bench.submit("slow 50")
    with hub.follow(job_id) as follower:
        events = list(follow_all(follower, 10))
    hub.stop()
    text = "".join(msgspec.json.decode(e.data)["text"] for e in events if e.kind == "token")
    output = bench.ended(job_id).output
    assert isinstance(output, dict) and text == output["text"]
    assert [e.kind for e in events].count("done") == 1


def test_the_error_of_an_estimated_start_is_told(
    start: Callable[..., Bench], store: JobStore
) -> None:
    bench = start()

    def put(content: str) -> str:
        request = msgspec.json.encode({"content": content, "params": {}, "seed": 3})
        job = NewJob(new_job_id(), MODEL, "t", request)
        store.create(job, max_queued=10)
        return job.id

    first = put("a")
    seconds, _ = store.redis.time()  # type: ignore[misc]
    measured = {"drained": 100, "drain_ms": 10_000, "drain_seen": seconds * 1000}
    store.redis.hset(store.keys("queue", MODEL), mapping=measured)
    second = put("b")
    bench.ring()

    assert [bench.ended(job_id).status for job_id in (first, second)] == ["succeeded"] * 2
    [(model, error)] = bench.diary.estimates
    assert model == MODEL and -1 < error < 15


def test_a_host_that_hangs_is_killed_while_redis_hangs(own_redis: RedisServer) -> None:
    redis = connect(own_redis.url, 0.5)
    bench = Bench(JobStore(redis, "hangs", retention=60, lease=5.0), step_timeout=1.0)
    engine = bench.runtime.executor.engine
    talking = bench.submit("slow 100000")
    eventually(lambda: log_text(bench.store, talking))
    assert own_redis.process is not None
    own_redis.process.send_signal(signal.SIGSTOP)
    try:
        request = msgspec.json.encode({"content": "hang", "params": {}, "seed": 1})
        assert engine.send([Submit("nobody/1", request, 60, "expired")])
        eventually(lambda: engine.restarts == 1, what="the watchdog kills the host")
    finally:
        own_redis.process.send_signal(signal.SIGCONT)
    bench.store.cancel(talking)
    assert bench.ended(talking).status is JobState.CANCELED
    bench.stop()
    redis.close()


def test_an_output_that_is_a_file_is_in_the_storage_and_not_in_redis(
    start: Callable[..., Bench], store: JobStore, tmp_path: Path
) -> None:
    storage = open_storage(None, tmp_path)
    outputs = OutputFiles(Files(store), storage, Room(10**9, 9, 10**9), 60)
    bench = start(outputs=outputs)

    job = bench.ended(bench.submit("draw", params={"files": True}))

    assert isinstance(job.output, dict), job.error
    assert isinstance(job.output["image"], dict)
    file = Files(store).get(str(job.output["image"]["file"]), "t")
    assert storage.read(file.place, 0, file.bytes) == b"a cat"
