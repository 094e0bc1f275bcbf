"""Redis is stopped, stuck, or not there: 503 within 2 s, and back to work by itself."""

import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from shared.connection import connect
from shared.jobs import JobStore
from tests.api.conftest import PlayedWorker, Reply, Server
from tests.api.sse import Reader, text_of
from tests.conftest import RedisServer, eventually, free_port

ECHO = {"model": "echo", "prompt": "hello"}
UNKNOWN = "job_" + "0" * 32
CALLS: list[tuple[str, str, Any]] = [
    ("POST", "/v1/jobs", ECHO),
    ("POST", "/v1/infer", ECHO),
    ("POST", "/v1/infer/stream", ECHO),
    ("GET", "/v1/jobs", None),
    ("GET", f"/v1/jobs/{UNKNOWN}", None),
    ("GET", f"/v1/jobs/{UNKNOWN}?wait=30", None),
    ("GET", f"/v1/jobs/{UNKNOWN}/events", None),
    ("POST", f"/v1/jobs/{UNKNOWN}/cancel", None),
    ("DELETE", f"/v1/jobs/{UNKNOWN}", None),
    ("GET", "/v1/models", None),
    ("GET", "/v1/stats", None),
    ("GET", "/ready", None),
]
LIMIT = 2.0


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
        reply = server.request(method, path, body)
        answers.append((reply, time.monotonic() - started))

    threads = [threading.Thread(target=call, args=args) for args in CALLS]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert len(answers) == len(CALLS)
    return answers


def assert_away(server: Server) -> None:
    for reply, seconds in all_at_once(server):
        assert (reply.status, reply.json["code"]) == (503, "redis_unavailable")
        assert int(reply.headers["Retry-After"]) > 0
        assert seconds < LIMIT
    assert server.request("GET", "/health").status == 200


def works(server: Server) -> bool:
    return server.request("POST", "/v1/jobs", ECHO).status == 202


def test_a_killed_redis(behind: Server, frail: RedisServer) -> None:
    assert works(behind)
    frail.stop()

    assert_away(behind)

    frail.start()
    eventually(lambda: works(behind), what="work goes on")


def test_a_stuck_redis(behind: Server, frail: RedisServer) -> None:
    assert works(behind)
    assert frail.process is not None
    frail.process.send_signal(signal.SIGSTOP)
    try:
        assert_away(behind)
    finally:
        frail.process.send_signal(signal.SIGCONT)
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

    eventually(lambda: worker.store.get(job_id).state == "canceled", 15, "the job is canceled")
