import errno
import io
import os
import signal
import time
from pathlib import Path

import psutil
import pytest
from honcho.printer import Printer

from cli.serving import supervisor as module
from cli.serving.supervisor import Block, Spec, Supervisor
from tests.cli.conftest import gone, script, when

FOREVER = "say('up'); time.sleep(60)"
STUBBORN = "signal.signal(signal.SIGTERM, signal.SIG_IGN); say('up'); time.sleep(60)"


class Run:
    """A supervisor and what it has printed."""

    def __init__(self, *specs: Spec, drain: float = 5.0) -> None:
        self.output = io.StringIO()
        self.supervisor = Supervisor(
            specs, env=dict(os.environ), drain=drain, printer=Printer(self.output)
        )

    @property
    def text(self) -> str:
        return self.output.getvalue()

    def until(self, *words: str) -> None:
        """Run, and stop once all of these have been printed, which they must be."""
        thread = when(lambda: all(word in self.text for word in words), self.supervisor.stop)
        self.supervisor.run()
        thread.join()
        assert [word for word in words if word not in self.text] == []


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FIRST_DELAY", 0.05)
    monkeypatch.setattr(module, "TICK", 0.02)


def test_lines_carry_the_name_of_their_process() -> None:
    run = Run(script("one", FOREVER), script("two", "say('hällo'); time.sleep(60)"))

    run.until("one    | up", "two    | hällo")

    assert "system | one started (pid " in run.text
    assert "system | stopping" in run.text


def test_output_that_is_not_utf_8_breaks_nothing() -> None:
    run = Run(script("one", r"os.write(1, b'\xff\xfe ok\n'); time.sleep(60)"))
    run.until(" ok")
    assert "one    | \ufffd\ufffd ok" in run.text


def test_no_shell_stays_between(pids: Path) -> None:
    run = Run(script("one", "say(f'parent {os.getppid()}'); time.sleep(60)"))
    run.until("parent ")
    assert f"parent {os.getpid()}\n" in run.text


def test_a_process_that_dies_is_started_again_while_others_live_on(quick: None, pids: Path) -> None:
    dies = script("dies", "open(sys.argv[1], 'a').write('x'); say('born'); sys.exit(3)", str(pids))
    run = Run(dies, script("lives", "say(f'up {os.getpid()}'); time.sleep(60)"))

    thread = when(lambda: len(pids.read_text()) >= 3, run.supervisor.stop)
    run.supervisor.run()
    thread.join()

    assert "dies ended (exit code 3); starts again in 0.05 s" in run.text
    assert "dies ended (exit code 3); starts again in 0.1 s" in run.text
    assert run.text.count("lives started") == 1


def test_restarts_slow_down_to_a_limit(quick: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LONGEST_DELAY", 0.1)
    run = Run(script("dies", "sys.exit(1)"))

    run.until("in 0.05 s", "in 0.1 s")
    # A later one: the delay stays at the limit.
    assert "in 0.2 s" not in run.text


def test_a_process_that_lived_well_comes_back_quickly(
    quick: None, monkeypatch: pytest.MonkeyPatch, pids: Path
) -> None:
    monkeypatch.setattr(module, "STEADY", 0.0)
    dies = script("dies", "open(sys.argv[1], 'a').write('x'); sys.exit(1)", str(pids))
    run = Run(dies)

    thread = when(lambda: len(pids.read_text()) >= 3, run.supervisor.stop)
    run.supervisor.run()
    thread.join()

    assert "in 0.1 s" not in run.text


def test_a_program_that_is_not_there_is_reported_and_tried_again(quick: None) -> None:
    run = Run(Spec("absent", ("/nowhere/program",)))
    run.until("absent ended (exit code 127); starts again in 0.1 s")
    assert "absent ended (exit code 127); starts again in 0.05 s" in run.text


def test_a_stop_lets_processes_finish(pids: Path) -> None:
    drains = """
        def drain(*_):
            time.sleep(0.5)
            say('drained')
            sys.exit(0)
        signal.signal(signal.SIGTERM, drain)
        say('up')
        time.sleep(60)
    """
    run = Run(script("one", drains))

    run.until("one    | up")

    assert "one    | drained" in run.text
    assert "one ended (exit code 0)" in run.text
    assert "killing" not in run.text


def test_what_does_not_end_in_time_is_killed(quick: None) -> None:
    run = Run(script("stubborn", STUBBORN), script("meek", FOREVER), drain=0.5)

    run.until("stubborn | up", "meek     | up")

    assert "killing stubborn: not ended after 0.5 s" in run.text
    assert "stubborn ended (by signal: Killed)" in run.text
    assert "meek ended (by signal: Terminated)" in run.text


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_drains(signum: signal.Signals) -> None:
    run = Run(script("one", FOREVER))
    thread = when(lambda: "| up" in run.text, lambda: os.kill(os.getpid(), signum))

    run.supervisor.run()

    thread.join()
    assert f"{signum.name}: draining, up to 5 s" in run.text


def test_a_second_ctrl_c_kills_at_once(quick: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TWICE", 0.0)
    run = Run(script("one", STUBBORN), drain=60)
    interrupt = lambda: os.kill(os.getpid(), signal.SIGINT)  # noqa: E731
    first = when(lambda: "| up" in run.text, interrupt)
    second = when(lambda: "draining" in run.text, interrupt)
    started = time.monotonic()

    run.supervisor.run()

    first.join()
    second.join()
    assert "SIGINT again: killing" in run.text
    assert time.monotonic() - started < 60, "the drain would have taken a minute"


def test_one_ctrl_c_that_comes_twice_is_one(quick: None) -> None:
    drains = "signal.signal(signal.SIGTERM, lambda *_: (time.sleep(1), say('drained'), sys.exit()))"
    run = Run(script("one", f"{drains}\n{FOREVER}"))

    def interrupt_twice() -> None:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGTERM)

    thread = when(lambda: "| up" in run.text, interrupt_twice)
    run.supervisor.run()

    thread.join()
    assert "drained" in run.text


@pytest.mark.parametrize("stdout", ["None", "subprocess.DEVNULL"])
def test_what_a_dead_process_left_behind_is_ended(quick: None, pids: Path, stdout: str) -> None:
    leaves = f"""
        child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'], stdout={stdout})
        open(sys.argv[1], 'a').write(f'{{child.pid}}\\n')
        os.kill(os.getpid(), signal.SIGKILL)
    """
    run = Run(script("leaves", leaves, str(pids)))

    run.until("leaves ended (by signal: Killed); starts again in 0.05 s")

    children = [int(line) for line in pids.read_text().split()]
    assert children
    assert gone(*children)


def test_nothing_is_left_after_a_kill(quick: None, pids: Path) -> None:
    family = f"""
        subprocess.Popen([sys.executable, '-c', 'import signal, time;'
            'signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(60)'])
        {STUBBORN}
    """
    before = {child.pid for child in psutil.Process().children(recursive=True)}
    run = Run(script("family", family), drain=0.3)

    run.until("| up")

    after = {child.pid for child in psutil.Process().children(recursive=True)}
    assert gone(*(after - before))


def test_a_terminal_that_is_gone_stops_no_drain(pids: Path) -> None:
    drains = """
        signal.signal(signal.SIGTERM, lambda *_: (open(sys.argv[1], 'a').write('drained'), sys.exit()))
        say('up')
        time.sleep(60)
    """
    run = Run(script("one", drains, str(pids)))

    def hang_up() -> None:
        run.output.write = _gone  # type: ignore[method-assign]
        os.kill(os.getpid(), signal.SIGHUP)

    thread = when(lambda: "| up" in run.text, hang_up)
    run.supervisor.run()

    thread.join()
    assert pids.read_text() == "drained"


def _gone(*_: object) -> int:
    raise OSError(errno.EIO, "Input/output error")


def test_held_lines_come_out_after_all() -> None:
    run = Run(script("one", "time.sleep(0.5); say('up'); time.sleep(60)"))
    run.supervisor.hold()
    run.supervisor.say("said")
    run.supervisor.show(Block("shown\nas it is", "shown", {}))
    lines: list[str] = []

    def release() -> None:
        lines.append(run.text)
        run.supervisor.release()

    releaser = when(lambda: "up" in str(run.supervisor._held), release)
    run.until("one    | up", "\nshown\nas it is\n", "system | said")

    releaser.join()
    assert lines == [""]
