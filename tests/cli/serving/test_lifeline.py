import os
import signal
import subprocess
import sys
from pathlib import Path

from cli.serving.lifeline import Lifeline
from shared.embedded_redis import wait_until
from tests.cli.conftest import gone
from tests.conftest import PATIENCE

OWNER = """
import subprocess, sys, time
from cli.serving.lifeline import Lifeline

lifeline = Lifeline(float(sys.argv[2]))
children = []
for stage, source in enumerate(sys.argv[3:]):
    child = subprocess.Popen([sys.executable, "-c", source, sys.argv[1]], start_new_session=True)
    lifeline.watch(child.pid, stage)
    children.append(child.pid)
print(lifeline.pid, *children, flush=True)
time.sleep(60)
"""
LOGS_ITS_END = """
import signal, sys, time
def end(*_):
    time.sleep({pause})
    open(sys.argv[1], "a").write("{name} ")
    sys.exit()
signal.signal(signal.SIGTERM, end)
open(sys.argv[1], "a").write("up ")
time.sleep(60)
"""
STUBBORN = """
import signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
open(sys.argv[1], "a").write("up ")
time.sleep(60)
"""


def own(log: Path, drain: float, *sources: str) -> tuple[subprocess.Popen[bytes], list[int]]:
    owner = subprocess.Popen(
        [sys.executable, "-c", OWNER, str(log), str(drain), *sources], stdout=subprocess.PIPE
    )
    assert owner.stdout is not None
    pids = [int(word) for word in owner.stdout.readline().split()]
    assert wait_until(
        lambda: log.exists() and log.read_text().count("up") == len(sources), PATIENCE
    )
    return owner, pids


def test_a_killed_owner_s_processes_end_stage_by_stage(tmp_path: Path) -> None:
    log = tmp_path / "log"
    first, second = (
        LOGS_ITS_END.format(name="worker", pause=0.5),
        LOGS_ITS_END.format(name="redis", pause=0),
    )
    owner, pids = own(log, 10, first, second)

    with owner:
        owner.kill()

    assert gone(*pids)
    assert log.read_text().split()[-2:] == ["worker", "redis"]


def test_what_does_not_end_in_time_is_killed(tmp_path: Path) -> None:
    owner, pids = own(tmp_path / "log", 0.3, STUBBORN)

    with owner:
        owner.kill()

    assert gone(*pids)


def test_what_was_forgotten_is_left_alone() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", "import time; time.sleep(60)"], start_new_session=True
    ) as stranger:
        lifeline = Lifeline(5)
        lifeline.watch(stranger.pid)
        lifeline.forget(stranger.pid)

        lifeline.close()

        assert gone(lifeline.pid)
        assert stranger.poll() is None
        stranger.kill()


def test_a_dead_watcher_disturbs_nobody() -> None:
    lifeline = Lifeline(5)
    os.kill(lifeline.pid, signal.SIGKILL)
    assert gone(lifeline.pid)

    lifeline.watch(os.getpid())
    lifeline.close()
