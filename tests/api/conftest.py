"""Fixtures of the API's tests: a catalogue, an app with a client, a played worker, real gunicorns."""

import http.client
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import pytest
from flask import Flask
from flask.testing import FlaskClient
from jinja2.bccache import Bucket, BytecodeCache

from api.app import create_app
from api.services import of
from shared.domain.records import Append, Claim, Finish
from shared.domain.states import JobState
from shared.redis.connection import connect
from shared.settings import Settings, load_settings
from shared.store.jobs import JobStore
from tests.conftest import RedisServer, eventually
from tests.ports import free_port

TOKEN = "test-token-0123456789"
AUTH = {"Authorization": f"Bearer {TOKEN}"}
NO_LIMIT = 10**6
"""The limiter is at work, above what any test reaches that is not about it."""
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def catalogue(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One model an engine; the API looks at their entries only."""
    folder = tmp_path_factory.mktemp("catalogue")
    (folder / "weights").mkdir()
    path = folder / "catalog.yaml"
    path.write_text(
        """
models:
  echo: {engine: echo}
  full: {engine: echo, limits: {max_queued: 1}}
  llama: {engine: text-generation, path: weights, limits: {max_new_tokens: 64}}
  encoder: {engine: embedding, path: weights}
  ranker: {engine: ranking, path: weights}
  own: {engine: "somebody.engine:Model"}
"""
    )
    return path


@pytest.fixture
def settings(catalogue: Path, redis_url: str, prefix: str) -> Settings:
    return load_settings(
        TRUTHGPT_API_TOKEN=TOKEN,
        TRUTHGPT_CONFIG=catalogue,
        REDIS_URL=redis_url,
        TRUTHGPT_KEY_PREFIX=prefix,
        MAX_BODY_BYTES=64 * 1024,
        FILE_STORAGE=str(catalogue.parent / "files"),
        STREAM_GRACE_SEC=0.2,
        RATE_LIMIT_RPM=NO_LIMIT,
    )


@dataclass
class Rings:
    """The doorbells that an app has pushed."""

    models: list[str] = field(default_factory=list)

    def __call__(self, model: str) -> None:
        self.models.append(model)


@pytest.fixture
def rings() -> Rings:
    return Rings()


class CompiledTemplates(BytecodeCache):
    """What Jinja made of the pages' templates, for the apps of later tests: it takes longer than a test."""

    def __init__(self) -> None:
        self._kept: dict[str, bytes] = {}

    def load_bytecode(self, bucket: Bucket) -> None:
        if (code := self._kept.get(bucket.key)) is not None:
            bucket.bytecode_from_string(code)

    def dump_bytecode(self, bucket: Bucket) -> None:
        self._kept[bucket.key] = bucket.bytecode_to_string()


COMPILED_TEMPLATES = CompiledTemplates()


@pytest.fixture
def app(settings: Settings, store: JobStore, rings: Rings) -> Iterator[Flask]:
    app = create_app(settings, store=store, ring=rings)
    app.jinja_env.bytecode_cache = COMPILED_TEMPLATES
    yield app
    of(app).close()


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    """Calls the app in this process, with the token."""
    client = app.test_client()
    client.environ_base["HTTP_AUTHORIZATION"] = AUTH["Authorization"]
    return client


@pytest.fixture
def anonymous(app: Flask) -> FlaskClient:
    """Calls the app in this process, without a token."""
    return app.test_client()


class PlayedWorker:
    """Does a worker's part on the store, step by step, as a test says."""

    def __init__(self, store: JobStore, model: str = "echo") -> None:
        self.store = store
        self.model = model

    def take(self, model: str | None = None) -> Claim:
        """Claim one job, as soon as there is one."""
        claims: list[Claim] = []

        def claimed() -> bool:
            claims.extend(self.store.claim(model or self.model, 1, "played").claims)
            return bool(claims)

        eventually(claimed, what="a job to claim")
        return claims[0]

    def say(self, claim: Claim, seq: int, text: str) -> int:
        data = msgspec.json.encode({"text": text, "index": seq - 1})
        return self.store.write([Append(claim.id, claim.attempt, seq, "token", data)])[0]

    def end(
        self,
        claim: Claim,
        state: JobState = JobState.SUCCEEDED,
        *,
        output: Any = None,
        error: Mapping[str, Any] | None = None,
        usage: Mapping[str, Any] | None = None,
    ) -> int:
        encode = msgspec.json.encode
        # fmt: off
        return self.store.write([Finish(
            claim.id, claim.attempt, state,
            encode(output) if output is not None else b"",
            encode(error) if error is not None else b"",
            encode(usage) if usage is not None else b"",
        )])[0]
        # fmt: on

    def serve(self, *texts: str, model: str | None = None) -> Claim:
        """Take one job, say these texts, and succeed with them."""
        claim = self.take(model)
        for seq, text in enumerate(texts, 1):
            assert self.say(claim, seq, text)
        whole = "".join(texts)
        assert self.end(
            claim,
            output={"text": whole, "finish_reason": "stop"},
            usage={"completion_tokens": len(texts), "attempts": 1},
        )
        return claim

    def fail(self, code: str, message: str = "It went wrong.") -> Claim:
        claim = self.take()
        error = {"code": code, "message": message, "retryable": False}
        assert self.end(claim, JobState.FAILED, error=error)
        return claim


@pytest.fixture
def worker(store: JobStore) -> PlayedWorker:
    return PlayedWorker(store)


@pytest.fixture
def meanwhile() -> Iterator[Callable[[Callable[[], object]], None]]:
    """Do something in a thread while the test goes on; its failure fails the test."""
    threads: list[threading.Thread] = []
    failures: list[BaseException] = []

    def start(work: Callable[[], object]) -> None:
        def run() -> None:
            try:
                work()
            except BaseException as error:  # noqa: BLE001 - handed to the test below
                failures.append(error)

        threads.append(threading.Thread(target=run, daemon=True))
        threads[-1].start()

    yield start
    for thread in threads:
        thread.join(20)
    assert not failures, failures


@dataclass
class Reply:
    """An HTTP answer over a real socket."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Server:
    """A real gunicorn with its own environment."""

    def __init__(self, catalogue: Path, redis_url: str, prefix: str, **environment: str) -> None:
        self.port = free_port()
        self._environment = {
            **os.environ,
            "TRUTHGPT_API_TOKEN": TOKEN,
            "TRUTHGPT_CONFIG": str(catalogue),
            "TRUTHGPT_KEY_PREFIX": prefix,
            "REDIS_URL": redis_url,
            "HOST": "127.0.0.1",
            "PORT": str(self.port),
            "FILE_STORAGE": str(catalogue.parent / "files"),
            "STREAM_GRACE_SEC": "0.5",
            "MAX_BODY_BYTES": str(64 * 1024),
            "RATE_LIMIT_RPM": str(NO_LIMIT),
            **environment,
        }
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> "Server":
        self.process = subprocess.Popen(
            [sys.executable, "-m", "gunicorn", "-c", "api/server/gunicorn_conf.py"],
            env=self._environment,
            cwd=ROOT,
            stderr=subprocess.DEVNULL,
        )
        eventually(self._up, what="gunicorn answers")
        return self

    def terminate(self) -> None:
        """Ask for a graceful end."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)

    def stop(self) -> None:
        if self.process is not None:
            self.terminate()
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
            self.process = None

    def connect(self, timeout: float = 20.0) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)

    def request(
        self,
        method: str,
        path: str,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
        timeout: float = 20.0,
    ) -> Reply:
        """One call with the token; `body` is sent as JSON unless it is bytes."""
        connection = self.connect(timeout)
        sent = dict(AUTH)
        if body is not None:
            sent["Content-Type"] = "application/json"
        data = body if body is None or isinstance(body, bytes) else json.dumps(body)
        try:
            connection.request(method, path, data, {**sent, **(headers or {})})
            response = connection.getresponse()
            return Reply(response.status, dict(response.getheaders()), response.read())
        finally:
            connection.close()

    def _up(self) -> bool:
        try:
            return self.request("GET", "/health").status == 200
        except OSError:
            assert self.process is not None
            assert self.process.poll() is None, "gunicorn ended"
            return False


@pytest.fixture(scope="session")
def server_prefix() -> str:
    return "test-gunicorn"


@pytest.fixture(scope="session")
def server(catalogue: Path, redis_server: RedisServer, server_prefix: str) -> Iterator[Server]:
    """The session's gunicorn, on the session's Redis."""
    server = Server(catalogue, redis_server.url, server_prefix).start()
    yield server
    server.stop()


@pytest.fixture
def served(redis_server: RedisServer, server_prefix: str) -> Iterator[PlayedWorker]:
    """A played worker behind the session's gunicorn; nothing waits when the test begins."""
    redis = connect(redis_server.url, 5.0)
    yield PlayedWorker(JobStore(redis, server_prefix, retention=60, lease=5.0))
    names = list(redis.scan_iter(f"{server_prefix}:*", count=1000))
    if names:
        redis.delete(*names)
    redis.close()
