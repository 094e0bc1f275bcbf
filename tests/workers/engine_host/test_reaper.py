"""Whatever a model started ends with its host, however the one or the other ended."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import psutil
import pytest

from tests.conftest import eventually
from workers.engine_host.process import REAPER

HOST = """
import os, signal, subprocess, sys, time
folder, way = sys.argv[1:]
nap = [sys.executable, "-S", "-c", "import time; time.sleep(600)"]
stubborn = [sys.executable, "-S", "-c",
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)"]
subprocess.Popen(nap)
subprocess.Popen(nap, start_new_session=True)
subprocess.Popen(nap, process_group=0)
subprocess.Popen(stubborn, start_new_session=True)
# A daemon: nobody's child, of no group and no session of ours.
subprocess.run([sys.executable, "-S", "-c",
    f"import subprocess; subprocess.Popen({nap!r}, start_new_session=True)"])
if os.fork() == 0:
    time.sleep(600)
open(os.path.join(folder, "ready"), "w").write(str(os.getpid()))
if way == "wait":
    time.sleep(600)
elif way == "segfault":
    os.kill(os.getpid(), signal.SIGSEGV)
else:
    os._exit(int(way))
"""
STARTED = 6
WORKER = """
import subprocess, sys, time
given = [int(sys.argv[5])]
subprocess.Popen(sys.argv[1:], stdin=subprocess.PIPE, pass_fds=given, start_new_session=True)
time.sleep(600)
"""


class Below:
    """A reaper with a host below it, which starts `STARTED` processes in as many ways."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def start(self, way: str, above: Sequence[str] = ()) -> "subprocess.Popen[bytes]":
        """`above`: the command of a worker that starts the reaper; none: the test is the worker."""
        with Path(os.devnull).open() as given:
            number = str(given.fileno())
            host = [sys.executable, "-S", "-c", HOST, str(self.folder), way]
            return subprocess.Popen(
                [*above, sys.executable, "-I", "-S", str(REAPER), number, *host],
                stdin=subprocess.PIPE,
                pass_fds=[given.fileno()],
                env={**os.environ, "REAPER_TEST": str(self.folder)},
                start_new_session=True,
            )

    def alive(self) -> list[psutil.Process]:
        """All that carry the test's mark in their environment."""
        found = []
        for process in psutil.process_iter():
            try:
                if process.environ().get("REAPER_TEST") == str(self.folder):
                    found.append(process)
            except psutil.Error:
                continue
        return [one for one in found if one.status() != psutil.STATUS_ZOMBIE]

    def ready(self) -> None:
        eventually((self.folder / "ready").exists, what="the host has started them all")
        eventually(lambda: len(self.alive()) == STARTED + 2, what="they live, with host and reaper")


@pytest.fixture
def below(tmp_path: Path) -> Iterator[Below]:
    made = Below(tmp_path)
    yield made
    for process in made.alive():
        process.kill()


def test_all_that_a_host_started_ends_when_it_is_killed(below: Below) -> None:
    reaper = below.start("wait")
    below.ready()
    assert reaper.stdin is not None
    reaper.stdin.close()
    assert reaper.wait(20) == -signal.SIGKILL
    assert below.alive() == []


@pytest.mark.parametrize(("way", "status"), [("0", 0), ("5", 5), ("segfault", -signal.SIGSEGV)])
def test_all_that_a_host_started_ends_when_it_ends_by_itself_and_its_status_is_told(
    below: Below, way: str, status: int
) -> None:
    reaper = below.start(way)
    assert reaper.wait(30) == status
    assert below.alive() == []


def test_all_of_it_ends_when_the_worker_is_killed(below: Below) -> None:
    worker = below.start("wait", [sys.executable, "-c", WORKER])
    eventually(lambda: len(below.alive()) == STARTED + 3)
    worker.kill()
    worker.wait()
    eventually(lambda: below.alive() == [], what="nothing is left")


def test_signals_to_everybody_are_left_to_the_worker(below: Below) -> None:
    reaper = below.start("wait")
    below.ready()
    for signum in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        reaper.send_signal(signum)
    assert reaper.stdin is not None
    reaper.stdin.close()
    assert reaper.wait(20) == -signal.SIGKILL, "it ended as its host did, and by no other signal"
    assert below.alive() == []
