"""`truthgpt up` as a user runs it: it starts everything, survives Ctrl-C, leaves nothing behind."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from client import Client, ConnectionFailed
from tests.conftest import eventually, free_port, redis_binary, require
from tests.foreign import SURROUNDINGS

CATALOGUE = "models: {echo: {engine: echo, batch: {max_size: 4}}}"
TOKEN = "test-token-0123456789abcdef"


class Up:
    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        config = folder / "catalog.yaml"
        config.write_text(CATALOGUE, "utf-8")
        self.log = folder / "up.log"
        env = {
            **os.environ,
            **SURROUNDINGS,
            # An image's setting: no docstrings, no asserts.
            "PYTHONOPTIMIZE": "2",
            "TRUTHGPT_MODEL": "echo",
            "REDIS_URL": "",
            "TRUTHGPT_CONFIG": str(config),
            "TRUTHGPT_API_TOKEN": TOKEN,
            "WORKER_DRAIN_SEC": "1",
        }
        # fmt: off
        arguments = [
            "up", "--port", str(self.port), "--flower-port", str(free_port()),
            "--state-dir", str(folder / "Zoë's \"st ate\" 状态"),
        ]
        # fmt: on
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "cli", *arguments],
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.client = Client(f"http://127.0.0.1:{self.port}", TOKEN)
        eventually(self._ready, what=f"ready; see {self.log}")
        root = psutil.Process(self.process.pid)
        self.family = [root, *root.children(recursive=True)]

    def _ready(self) -> bool:
        assert self.process.poll() is None, self.log.read_text()
        try:
            return self.client.ready().ok
        except ConnectionFailed:
            return False

    def interrupt(self) -> None:
        self.process.send_signal(signal.SIGINT)
        self._ended()

    def lose_terminal(self) -> None:
        """What the kernel does to the foreground when a terminal is closed."""
        os.killpg(self.process.pid, signal.SIGHUP)
        self._ended()

    def _ended(self) -> None:
        self.process.wait(timeout=30)
        self.client.close()
        _, alive = psutil.wait_procs(self.family, timeout=5)
        for member in alive:
            member.kill()
        assert not alive, f"left behind: {alive}"


@pytest.mark.timeout(180)
def test_jobs_that_wait_at_ctrl_c_finish_after_the_next_start(tmp_path: Path) -> None:
    require(redis_binary(), "redis-server")
    first = Up(tmp_path)
    assert len(first.family) >= 6, "redis, api, worker, engine host, rescue, flower"
    words = "one two three four five six seven eight nine ten " * 3
    jobs = [first.client.submit("echo", words, params={"step_ms": 100}).id for _ in range(12)]
    eventually(lambda: any(j.status == "running" for j in first.client.jobs(limit=20)))
    first.interrupt()

    second = Up(tmp_path)
    ended = [second.client.get(job_id).wait(60) for job_id in jobs]
    assert [job.status for job in ended] == ["succeeded"] * 12
    assert all(job.output["text"] == words for job in ended)
    second.lose_terminal()
