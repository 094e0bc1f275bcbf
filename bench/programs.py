"""The processes of a subject: started in groups of their own, counted, and ended by their ids."""

import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

from cli.serving.lifeline import Lifeline
from shared.embedded_redis import EmbeddedRedis

REPOSITORY = Path(__file__).resolve().parent.parent
STOP_SECONDS = 10.0


class Program:
    """A running command; its output goes to `log`."""

    def __init__(
        self, command: list[str], env: Mapping[str, str], log: Path, folder: Path = REPOSITORY
    ) -> None:
        """`command` is run in `folder`."""
        with log.open("ab") as output:
            self.process = subprocess.Popen(
                command,
                cwd=folder,
                env={**os.environ, **env},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.name = shlex.join(command)
        self.log = log

    @property
    def parent(self) -> list[psutil.Process]:
        """The process that was started, while it lives."""
        with suppress(psutil.NoSuchProcess):
            return [psutil.Process(self.process.pid)]
        return []

    @property
    def children(self) -> list[psutil.Process]:
        """All that it has started, and they in turn."""
        with suppress(psutil.NoSuchProcess):
            return psutil.Process(self.process.pid).children(recursive=True)
        return []

    def stop(self) -> None:
        """SIGTERM to the process; SIGKILL for what is left of its group `STOP_SECONDS` later."""
        self.process.terminate()
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(STOP_SECONDS)
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


class Programs:
    """The processes of one subject, and the Redis that it has for itself."""

    def __init__(self, folder: Path, lifeline: Lifeline) -> None:
        self._folder = folder
        self._lifeline = lifeline
        self._running: list[Program] = []
        self._redis: EmbeddedRedis | None = None

    def redis(self) -> EmbeddedRedis:
        """Start a redis-server: append-only file, synced every second; on a port, which all subjects take."""
        self._redis = EmbeddedRedis(self._folder, loopback=True)
        self._redis.start()
        self._lifeline.watch(self._redis.pid or 0, stage=1)
        return self._redis

    def start(
        self,
        name: str,
        env: Mapping[str, str],
        *command: str,
        python: Path | None = None,
        checkout: Path = REPOSITORY,
    ) -> Program:
        """Run `python COMMAND` in the root of `checkout`, by default with this interpreter.

        Its output is in `<folder>/<name>.log`.
        """
        interpreter = str(python or sys.executable)
        log = self._folder / f"{name}.log"
        program = Program([interpreter, *command], env, log, checkout)
        self._running.append(program)
        self._lifeline.watch(program.process.pid)
        return program

    def stop(self) -> None:
        """End all, the last started first, Redis last of all."""
        while self._running:
            program = self._running.pop()
            program.stop()
            self._lifeline.forget(program.process.pid)
        if self._redis is not None:
            self._redis.stop()


@contextmanager
def programs(folder: Path) -> Iterator[Programs]:
    """Programs that end with the `with` block, and also when this process is killed."""
    lifeline = Lifeline(STOP_SECONDS)
    running = Programs(folder, lifeline)
    try:
        yield running
    finally:
        running.stop()
        lifeline.close()


def processes_of(redis: EmbeddedRedis) -> list[psutil.Process]:
    """The server's process, while it lives."""
    with suppress(psutil.NoSuchProcess):
        return [psutil.Process(redis.pid)] if redis.pid is not None else []
    return []
