"""The real processes of a server, started one by one so that a test can kill, pause and replace them.

They run in an environment that holds what other programs may have set (tests/foreign.py).
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import psutil

from client import Client, ConnectionFailed
from tests.conftest import PATIENCE, RedisServer, eventually
from tests.foreign import SURROUNDINGS
from tests.ports import free_port

TOKEN = "test-token-0123456789abcdef"


class Stack:
    """A Redis, an API, workers, a rescuer, perhaps Flower: each a process of its own."""

    def __init__(self, folder: Path, catalogue: str, env: Mapping[str, str] | None = None) -> None:
        self.folder = folder
        (folder / "redis").mkdir(parents=True)
        config = folder / "catalog.yaml"
        config.write_text(catalogue, "utf-8")
        self.redis = RedisServer(folder / "redis")
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._env = {
            **os.environ,
            **SURROUNDINGS,
            "REDIS_URL": self.redis.url,
            "TRUTHGPT_API_TOKEN": TOKEN,
            "RATE_LIMIT_RPM": "1000000",
            "TRUTHGPT_CONFIG": str(config),
            "TRUTHGPT_STATE_DIR": str(folder / "state"),
            "PORT": str(self.port),
            "JOB_LEASE_SEC": "2",
            "OMP_NUM_THREADS": "1",
            **(env or {}),
        }
        self._env.pop("TRUTHGPT_MODEL", None)
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.redis.start()

    def start(self, name: str, *arguments: str) -> "subprocess.Popen[bytes]":
        """Run `python -m cli ARGUMENTS` under a name; its output goes to a file of that name."""
        with (self.folder / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "cli", *arguments],
                env=self._env,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.processes[name] = process
        return process

    def worker(self, model: str, number: int = 1) -> "subprocess.Popen[bytes]":
        return self.start(f"worker-{model}-{number}", "worker", "--model", model)

    def serve(self, *models: str, seconds: float = PATIENCE) -> "Stack":
        """API, rescuer and one worker a model; returns when all of them serve, within `seconds`."""
        self.start("api", "api")
        self.start("rescue", "rescue")
        for model in models:
            self.worker(model)
        self.ready(*models, seconds=seconds)
        return self

    def ready(self, *models: str, seconds: float = PATIENCE) -> None:
        def serving() -> bool:
            try:
                with self.client() as client:
                    states = {m.name: m.serving for m in client.models()}
                    return client.ready().ok and all(states.get(m) for m in models)
            except ConnectionFailed:
                return False

        eventually(serving, seconds, what=f"the server is ready; see {self.folder}")

    def client(self) -> Client:
        return Client(self.url, TOKEN, timeout=30)

    def log(self, name: str) -> str:
        return (self.folder / f"{name}.log").read_text("utf-8", "replace")

    def kill(self, name: str) -> None:
        """kill -9, at once and without its children knowing."""
        process = self.processes.pop(name)
        process.kill()
        process.wait()

    def stop(self) -> None:
        """Drain everything and see that nothing is left behind."""
        family = [member for process in self.processes.values() for member in _family(process.pid)]
        for process in self.processes.values():
            process.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + 30
        for process in self.processes.values():
            try:
                process.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        _, alive = psutil.wait_procs(family, timeout=10)
        for member in alive:
            member.kill()
        self.redis.stop()
        assert not alive, f"left behind: {alive}"


def _family(pid: int) -> list[psutil.Process]:
    try:
        root = psutil.Process(pid)
        return [root, *root.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []
