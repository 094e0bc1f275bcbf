"""A whole turn with real processes, and nothing of it left afterwards."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from bench.clients.order import Dialect
from bench.programs import processes_of, programs
from bench.subjects import Serving
from bench.turn import TurnFailed, take_turn
from tests.conftest import eventually
from tests.ports import free_port


class Echo:
    """A subject without a queue: the tests' tiny server."""

    name, variant, processes, settings = "echo", "plain", 1, "none"
    environment: str | None = None
    durable = False
    dialect = Dialect(path="/infer", answer=("output", "text"))

    def __init__(self) -> None:
        self.seen: list[psutil.Process] = []

    @contextmanager
    def serve(self, folder: Path) -> Iterator[Serving]:
        port = free_port()
        with programs(folder) as running:
            redis = running.redis()
            web = running.start("web", {}, "-m", "tests.bench.echo_server", str(port))
            self.seen = [*web.parent, *processes_of(redis)]
            yield Serving(f"http://127.0.0.1:{port}", redis.url, {"web": lambda: web.parent})


class Broken(Echo):
    """A subject that answers nothing that counts."""

    dialect = Dialect(path="/infer", answer=("somewhere", "else"))


def test_a_turn_measures_and_leaves_no_process(tmp_path: Path) -> None:
    subject = Echo()

    turn = take_turn(subject, tmp_path / "turn", clients=2, warm_up=0.05, seconds=0.2, settle=0)

    assert turn.report.right > 0
    assert turn.report.errors == {}
    assert turn.cost.cpu_ms.keys() <= {"web"}
    assert len(subject.seen) == 2
    assert not any(process.is_running() for process in subject.seen)


def test_a_turn_that_fails_says_what_the_subject_said_and_leaves_no_process(tmp_path: Path) -> None:
    subject = Broken()

    with pytest.raises(TurnFailed, match=r"web\.log"):
        take_turn(subject, tmp_path / "turn", clients=1, warm_up=0, seconds=0.1, patience=1.0)

    assert not any(process.is_running() for process in subject.seen)


def test_programs_end_with_all_that_they_started(tmp_path: Path) -> None:
    parent = (
        "import subprocess, sys, time; subprocess.Popen([sys.executable, '-c', "
        "'import time; print(1, flush=True); time.sleep(600)']); time.sleep(600)"
    )
    with programs(tmp_path) as running:
        program = running.start("parent", {}, "-c", parent)
        log = tmp_path / "parent.log"
        while not log.read_bytes():
            assert program.process.poll() is None
        family = program.parent + program.children
        assert len(family) == 2

    # A killed grandchild is reaped by the system, not by us.
    eventually(lambda: all(ended(process) for process in family), what="all have ended")


def ended(process: psutil.Process) -> bool:
    try:
        return process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True
