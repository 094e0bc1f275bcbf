"""The OpenAPI document against the live server: schemathesis with all its checks, links followed.

Every run sends the examples and boundary values of each operation, and a few random cases; `make explore`
sends all boundary values of those operations that have many, and a hundred times as many random cases.
"""

import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from shared.domain.records import Append, Finish
from shared.domain.states import JobState
from shared.redis.connection import connect
from shared.store.jobs import JobStore
from tests.api.conftest import ROOT, TOKEN, Server
from tests.conftest import RedisServer, eventually, examples

FUZZED = examples(60, daily=4)
"""Random cases of an operation, and random chains of operations."""
STRIDE = 1 if FUZZED > 4 else 25
"""See tests/api/schemathesis_hooks.py."""
CASES = 800
REPEATABLE = ("--generation-deterministic",) if settings.default.derandomize else ()
REPLACED = "positive_data_acceptance,not_a_server_error"
"""Checks that stand in tests/api/schemathesis_hooks.py with what no schema can foresee."""
OUTPUT = b'{"text": "x", "finish_reason": "stop"}'
REPORT = b'{"state": "ready", "active": 0, "capacity": 32}'


class Serving:
    """A worker that ends every job at once."""

    def __init__(self, store: JobStore) -> None:
        self._store = store
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._stopped.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stopped.is_set():
            claims = self._store.claim("echo", 32, "played").claims
            if not claims:
                self._store.beat("echo", "played", REPORT, [])
                time.sleep(0.01)
            for claim in claims:
                self._store.write(
                    [
                        Append(claim.id, 1, 1, "token", b'{"text": "x", "index": 0}'),
                        Finish(claim.id, 1, JobState.SUCCEEDED, OUTPUT),
                    ]
                )


@pytest.fixture
def serving(
    tmp_path: Path, redis_server: RedisServer, prefix: str, store: JobStore
) -> Iterator[Server]:
    """A gunicorn with one model and a worker for it."""
    catalogue = tmp_path / "catalog.yaml"
    catalogue.write_text("models: {echo: {engine: echo}}")
    server = Server(catalogue, redis_server.url, prefix, REDIS_TIMEOUT_SEC="10").start()
    redis = connect(redis_server.url, 5.0)
    # Long enough for a machine that is busy with other things.
    worker = Serving(JobStore(redis, prefix, retention=600, lease=60.0))
    eventually(lambda: server.request("GET", "/ready").status == 200, what="a worker serves")
    yield server
    worker.stop()
    server.stop()
    redis.close()


@pytest.mark.explores
@pytest.mark.timeout(600)
def test_the_server_keeps_what_its_document_promises(serving: Server, tmp_path: Path) -> None:
    command = [
        *(sys.executable, "-m", "schemathesis.cli", "run"),
        f"http://127.0.0.1:{serving.port}/openapi.json",
        *("--header", f"Authorization: Bearer {TOKEN}"),
        *("--checks", "all", "--exclude-checks", REPLACED),
        *("--phases", "examples,coverage,fuzzing,stateful"),
        *("--max-examples", str(FUZZED), *REPEATABLE),
        *("--request-timeout", "20", "--no-color"),
    ]
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "SCHEMATHESIS_HOOKS": "tests.api.schemathesis_hooks",
        "BOUNDARY_STRIDE": str(STRIDE),
    }

    ran = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)

    _, _, failures = ran.stdout.partition(" FAILURES ")
    assert ran.returncode == 0, failures[:4000] + ran.stdout[-2000:] + ran.stderr[-2000:]
    counted = re.search(r"Test cases:\s+(\d+) generated, +(\d+) passed", ran.stdout)
    assert counted is not None, ran.stdout[-2000:]
    assert int(counted[1]) >= CASES, ran.stdout[-500:]
    for phase in ("Examples", "Coverage", "Fuzzing", "Stateful"):
        assert re.search(rf"✅ {phase}", ran.stdout), ran.stdout[-2000:]
