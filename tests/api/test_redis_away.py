"""Redis is stopped, stuck, or not there: 503 to everybody who asks, and back to work by itself."""

import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from shared.domain.records import Claim
from shared.redis.connection import connect
from shared.store.jobs import JobStore
from tests.api.conftest import PlayedWorker, Reply, Server
from tests.api.sse import Reader, text_of
from tests.conftest import PATIENCE, RedisServer, eventually
from tests.ports import free_port

ECHO = {"model": "echo", "prompt": "hello"}
UNKNOWN = "job_" + "0" * 32
CALLS: list[tuple[str, str, Any]] = [
    ("POST", "/v1/jobs", ECHO),
    ("POST", "/v1/infer", ECHO),
    ("POST", "/v1/infer/stream", ECHO),
    ("GET", "/v1/jobs", None),
    ("GET", f"/v1/jobs/{UNKNOWN}", None),
    ("GET", f"/v1/jobs/{UNKNOWN}?wait=60", None),
    ("GET", f"/v1/jobs/{UNKNOWN}/events", None),
    ("POST", f"/v1/jobs/{UNKNOWN}/cancel", None),
    ("DELETE", f"/v1/jobs/{UNKNOWN}", None),
    ("GET", "/v1/models", None),
    ("GET", "/v1/stats", None),
    ("GET", "/ready", None),
]
LONGEST_WAIT = 55.0
"""Seconds, fewer than a caller above is ready to wait for: no answer may take so long while Redis is away."""


@pytest.fixture(scope="module")
def frail(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """A Redis that these tests kill and stop; each leaves it running."""
    redis = RedisServer(tmp_path_factory.mktemp("frail"))
    redis.start()
    yield redis
    redis.stop()


@pytest.fixture(scope="module")
def behind(catalogue: Path, frail: RedisServer) -> Iterator[Server]:
    """A gunicorn on the frail Redis."""
    server = Server(catalogue, frail.url, "away", STREAM_GRACE_SEC="0.2").start()
    yield server
    server.stop()


@pytest.fixture
def worker(frail: RedisServer) -> Iterator[PlayedWorker]:
    redis = connect(frail.url, 5.0)
    redis.flushall()
    yield PlayedWorker(JobStore(redis, "away", lease=60))
    redis.close()


def all_at_once(server: Server) -> list[tuple[Reply, float]]:
    """Every call, each in a thread of its own, with the seconds it took."""
    answers: list[tuple[Reply, float]] = []

    def call(method: str, path: str, body: Any) -> None:
        started = time.monotonic()
        reply = server.request(method, path, body, timeout=PATIENCE)
        answers.append((reply, time.monotonic() - started))

    threads = [threading.Thread(target=call, args=args) for args in CALLS]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert len(answers) == len(CALLS)
    return answers


def assert_away(server: Server) -> None:
    for reply, seconds in all_at_once(server):
        assert (reply.status, reply.json["code"]) == (503, "redis_unavailable")
        assert int(reply.headers["Retry-After"]) > 0
        assert seconds < LONGEST_WAIT
    assert server.request("GET", "/health").status == 200


def works(server: Server) -> bool:
    return server.request("POST", "/v1/jobs", ECHO).status == 202


class Frozen:
    """Redis, which a test stops from answering and lets go on."""

    def __init__(self, behind: Server, process: "subprocess.Popen[bytes]") -> None:
        self._behind = behind
        self._process = process

    def stop(self) -> None:
        self._process.send_signal(signal.SIGSTOP)
        eventually(lambda: self._behind.request("GET", "/ready").status == 503)

    def go_on(self) -> None:
        self._process.send_signal(signal.SIGCONT)


@pytest.fixture
def frozen(behind: Server, frail: RedisServer) -> Iterator[Frozen]:
    """It goes on at the test's end at the latest."""
    assert frail.process is not None
    frozen = Frozen(behind, frail.process)
    yield frozen
    frozen.go_on()
    eventually(lambda: works(behind), what="work goes on")


def test_a_killed_redis(behind: Server, frail: RedisServer) -> None:
    eventually(lambda: works(behind), what="work goes on")
    frail.stop()

    assert_away(behind)

    frail.start()
    eventually(lambda: works(behind), what="work goes on")


def test_a_stuck_redis(behind: Server, frozen: Frozen) -> None:
    eventually(lambda: works(behind), what="work goes on")
    frozen.stop()

    assert_away(behind)

    frozen.go_on()
    eventually(lambda: works(behind), what="work goes on")


def test_a_redis_that_was_never_there(catalogue: Path) -> None:
    server = Server(catalogue, f"redis://127.0.0.1:{free_port()}/0", "away").start()
    try:
        assert_away(server)
    finally:
        server.stop()


def test_a_stream_outlives_a_restart_of_redis(
    behind: Server, frail: RedisServer, worker: PlayedWorker
) -> None:
    # What Redis has on disk is what counts here, so it must have all of it.
    worker.store.redis.config_set("appendfsync", "always")
    with Reader(behind, "POST", "/v1/infer/stream", ECHO) as reader:
        claim = worker.take()
        worker.say(claim, 1, "before ")
        first = reader.until("token")
        frail.stop()
        eventually(lambda: behind.request("GET", "/ready").json["code"] == "redis_unavailable")
        frail.start()
        worker.say(claim, 2, "the outage, after")
        worker.end(claim, output={"text": "before the outage, after"})

        rest = reader.frames()

    assert first.data["text"] == "before "
    assert text_of(rest) == "the outage, after"
    assert rest[-1].kind == "done" and rest[-1].data["status"] == "succeeded"


def test_a_reader_that_leaves_during_an_outage_still_ends_its_job(
    behind: Server, frail: RedisServer, worker: PlayedWorker
) -> None:
    reader = Reader(behind, "POST", "/v1/infer/stream", ECHO)
    reader.frame()
    job_id = reader.headers["Location"].rpartition("/")[2]
    assert frail.process is not None
    frail.process.send_signal(signal.SIGSTOP)
    reader.hang_up()
    eventually(lambda: behind.request("GET", "/ready").json["code"] == "redis_unavailable")
    frail.process.send_signal(signal.SIGCONT)

    eventually(lambda: worker.store.get(job_id).state == "canceled", what="the job is canceled")


@dataclass
class Job:
    """A job that has said one word, and the path by which a browser reads its events."""

    id: str
    path: str
    claim: Claim


@pytest.fixture
def make_job(behind: Server, worker: PlayedWorker) -> Callable[[], Job]:
    eventually(lambda: works(behind), what="work goes on")
    worker.store.redis.flushall()

    def make() -> Job:
        job_id = behind.request("POST", "/v1/jobs", ECHO).json["id"]
        url: str = behind.request("GET", f"/v1/jobs/{job_id}").json["urls"]["events"]
        claim = worker.take()
        worker.say(claim, 1, "before ")
        return Job(job_id, url.partition(str(behind.port))[2], claim)

    return make


def test_a_reader_with_a_ticket_that_comes_during_an_outage_waits_for_its_end(
    behind: Server, worker: PlayedWorker, make_job: Callable[[], Job], frozen: Frozen
) -> None:
    job = make_job()
    frozen.stop()
    with Reader(behind, "GET", job.path, headers={"Last-Event-ID": "1-0"}, token=False) as reader:
        assert reader.response.status == 200
        assert reader.headers["Content-Type"] == "text/event-stream"
        assert reader.block() == "retry: 1000"
        frozen.go_on()
        worker.say(job.claim, 2, "the outage, after")
        worker.end(job.claim, output={"text": "before the outage, after"})

        frames = reader.frames()

    assert text_of(frames) == "before the outage, after"
    assert [frame.id for frame in frames] == ["1-1", "1-2", "1-3"]


def test_readers_that_have_waited_for_nothing_come_back_for_their_answers(
    behind: Server, worker: PlayedWorker, make_job: Callable[[], Job], frozen: Frozen
) -> None:
    unknown, expired, gone = (make_job() for _ in range(3))
    keys = worker.store.keys
    expected = [(unknown, "9-9", 422), (expired, "1-0", 410), (gone, "1-0", 404)]
    frozen.stop()
    readers = []
    for job, cursor, _ in expected:
        sent = {"Last-Event-ID": cursor}
        readers.append(Reader(behind, "GET", job.path, headers=sent, token=False))
        assert readers[-1].response.status == 200
    # Redis takes in what it is sent while it stands still, and does it before all that is asked later.
    connection = worker.store.redis.connection_pool.get_connection()
    names = keys("log", expired.id), keys("job", gone.id)
    connection.send_command("DEL", *names, check_health=False)
    frozen.go_on()

    for reader in readers:
        with reader:
            assert reader.frames() == []
    for job, cursor, status in expected:
        sent = {"Last-Event-ID": cursor}
        with Reader(behind, "GET", job.path, headers=sent, token=False) as again:
            assert again.response.status == status


def test_without_its_ticket_nobody_waits(
    behind: Server, make_job: Callable[[], Job], frozen: Frozen
) -> None:
    path = f"/v1/jobs/{make_job().id}/events"
    frozen.stop()
    refused = behind.request("GET", path)
    assert (refused.status, refused.json["code"]) == (503, "redis_unavailable")
    for ticket in ("", "?ticket=1.x", "?ticket=9999999999." + "A" * 43):
        with Reader(behind, "GET", path + ticket, token=False) as reader:
            assert reader.response.status == 401
