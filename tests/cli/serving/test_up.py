"""The real thing: real processes, an embedded Redis, an echo model."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from client import Client, ClientError, text_of
from shared.embedded_redis import free_port, wait_until
from tests.cli.conftest import gone
from tests.conftest import PATIENCE


class Up:
    """A running `truthgpt up` and its log."""

    def __init__(self, folder: Path, *, step_ms: float = 0) -> None:
        self.state = folder / "state"
        self.log = folder / "up.log"
        catalogue = folder / "catalog.yaml"
        catalogue.write_text(f"models: {{echo: {{engine: echo, step_ms: {step_ms}}}}}")
        unset = ("REDIS_URL", "TRUTHGPT_API_TOKEN", "TRUTHGPT_CONFIG", "TRUTHGPT_MODEL")
        port = free_port()
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "cli", "up", "--no-flower"),
                    *("--state-dir", str(self.state), "--config", str(catalogue)),
                    *("--port", str(port)),
                ],
                stdout=log,
                stderr=subprocess.STDOUT,
                env={name: value for name, value in os.environ.items() if name not in unset},
            )
        self.url = f"http://127.0.0.1:{port}"
        assert wait_until(self._ready, PATIENCE), self.log.read_text()

    def _ready(self) -> bool:
        assert self.process.poll() is None, self.log.read_text()
        try:
            with Client(self.url, retry_for=0) as client:
                return client.ready().ok
        except ClientError:
            return False

    def client(self) -> Client:
        return Client(self.url, (self.state / "token").read_text().strip())

    def family(self) -> list[int]:
        children = psutil.Process(self.process.pid).children(recursive=True)
        return [self.process.pid, *(child.pid for child in children)]


@pytest.fixture
def ups() -> Iterator[list[Up]]:
    started: list[Up] = []
    yield started
    for up in started:
        if up.process.poll() is None:
            up.process.send_signal(signal.SIGINT)
            up.process.wait(PATIENCE)


def serving(up: Up) -> list[dict[str, Any]]:
    rows = [json.loads(line) for line in up.log.read_text().splitlines()]
    return [row for row in rows if row["event"] == "serving"]


def test_jobs_outlive_a_ctrl_c_and_no_process_outlives_one_or_a_kill(
    tmp_path: Path, ups: list[Up]
) -> None:
    ups.append(first := Up(tmp_path, step_ms=50))
    with first.client() as client:
        assert text_of(client.submit("echo", "one two three").stream()) == "one two three"
        jobs = [client.submit("echo", "word " * 40) for _ in range(60)]
    family = first.family()
    assert len(family) >= 5
    assert wait_until(lambda: serving(first), PATIENCE)

    first.process.send_signal(signal.SIGINT)

    assert first.process.wait(PATIENCE) == 0
    assert gone(*family)
    ups.append(second := Up(tmp_path, step_ms=0))
    with second.client() as client:
        ended = [client.get(job.id).wait(PATIENCE) for job in jobs]
    assert {job.status for job in ended} == {"succeeded"}
    token = (second.state / "token").read_text().strip()
    assert wait_until(lambda: len(serving(second)) == 2, PATIENCE)
    facts = serving(second)[-1]
    assert token not in second.log.read_text()
    assert facts["api"] == second.url and facts["flower"] is None
    assert facts["token"] == f"in {second.state / 'token'}"
    [model] = facts["models"]
    assert (model["model"], model["device"], model["workers"]) == ("echo", "cpu", 1)
    assert model["state"] in ("ready", "busy")

    family = second.family()
    second.process.kill()
    second.process.wait()
    assert gone(*family)
