"""`truthgpt up` as a user runs it: it starts everything, wherever it is, and leaves nothing behind.

What outlives a Ctrl-C is tested in tests/cli/serving/test_up.py.
"""

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil

from client import Client, ConnectionFailed
from tests.conftest import eventually, redis_binary, require
from tests.foreign import SURROUNDINGS
from tests.ports import free_port

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

    def lose_terminal(self) -> None:
        """What the kernel does to the foreground when a terminal is closed. Nothing may outlive it."""
        os.killpg(self.process.pid, signal.SIGHUP)
        self.process.wait(timeout=30)
        self.client.close()
        _, alive = psutil.wait_procs(self.family, timeout=5)
        for member in alive:
            member.kill()
        assert not alive, f"left behind: {alive}"


def test_it_starts_in_odd_surroundings_and_ends_with_its_terminal(tmp_path: Path) -> None:
    require(redis_binary(), "redis-server")
    up = Up(tmp_path)
    assert len(up.family) >= 6, "redis, api, worker, engine host, rescue, flower"

    assert up.client.submit("echo", "one two three").wait(60).status == "succeeded"

    up.lose_terminal()
