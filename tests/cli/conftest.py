"""Small real processes to supervise, and a look at what they leave behind."""

import signal
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from cli.serving.supervisor import Spec
from shared.embedded_redis import wait_until
from tests.client.conftest import server
from tests.conftest import PATIENCE

__all__ = ["server"]


def script(name: str, source: str, *arguments: str) -> Spec:
    """A process that runs these lines of Python; `say` prints at once."""
    prelude = "import os, signal, subprocess, sys, time\nsay = lambda s: print(s, flush=True)\n"
    return Spec(name, (sys.executable, "-c", prelude + textwrap.dedent(source), *arguments))


def gone(*pids: int, within: float = PATIENCE) -> bool:
    """Whether these processes have ended; one that only waits to be reaped has."""

    def ended(pid: int) -> bool:
        try:
            return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return True

    return wait_until(lambda: all(ended(pid) for pid in pids), within)


def when(condition: Callable[[], bool], then: Callable[[], None]) -> threading.Thread:
    """Do something from another thread once a condition holds, or will not: a supervisor must be stopped."""

    def watch() -> None:
        wait_until(condition, PATIENCE)
        then()

    thread = threading.Thread(target=watch)
    thread.start()
    return thread


@pytest.fixture
def pids(tmp_path: Path) -> Path:
    """A file to which test processes add their ids, one a line."""
    path = tmp_path / "pids"
    path.touch()
    return path


@pytest.fixture(autouse=True)
def handlers_are_put_back() -> Iterator[None]:
    before = [signal.getsignal(signum) for signum in (signal.SIGINT, signal.SIGTERM)]
    yield
    assert before == [signal.getsignal(signum) for signum in (signal.SIGINT, signal.SIGTERM)]
