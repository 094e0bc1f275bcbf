"""Ends what `truthgpt up` started in case `up` itself is killed before it can.

The kernel's own means (a death signal to the children) hangs on the thread that started them and exists
on Linux alone. So a small process of its own holds the reading end of a pipe: the pipe ends when `up`
does, however it dies, and then the processes are asked to end, given their time, and killed. It imports
nothing but the standard library, so it costs little memory and can be run as a bare script.
"""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

POLL = 0.1


class Lifeline:
    """The side of `up`: tell it which process groups live."""

    def __init__(self, drain: float) -> None:
        """`drain` is in seconds: the time that processes have between SIGTERM and SIGKILL."""
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", str(Path(__file__).resolve()), str(drain)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    @property
    def pid(self) -> int:
        return self._process.pid

    def watch(self, pid: int, stage: int = 0) -> None:
        """`pid` leads a process group. A stage ends when all of the stages below it have."""
        self._say(f"{pid} {stage}")

    def forget(self, pid: int) -> None:
        """`pid` has ended; its number may soon be somebody else's."""
        self._say(f"{pid} -1")

    def close(self) -> None:
        """Let go; what is still watched is ended."""
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):
            self._process.stdin.close()
        self._process.wait()

    def _say(self, line: str) -> None:
        assert self._process.stdin is not None
        # Without the watcher everything still works; only a kill of `up` would leave its children.
        with contextlib.suppress(OSError):
            self._process.stdin.write(f"{line}\n".encode())
            self._process.stdin.flush()


def main(drain: float) -> None:
    """The watcher: read who lives until the pipe ends, then end those who still do."""
    for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(signum, signal.SIG_IGN)
    stages: dict[int, int] = {}
    for line in sys.stdin:
        pid, stage = (int(part) for part in line.split())
        if stage < 0:
            stages.pop(pid, None)
        else:
            stages[pid] = stage
    for stage in sorted(set(stages.values())):
        end([pid for pid, at in stages.items() if at == stage], drain)


def end(leaders: list[int], drain: float) -> None:
    """SIGTERM the leaders of these process groups; SIGKILL what is left of the groups after `drain`."""
    for pid in leaders:
        signal_quietly(os.kill, pid, signal.SIGTERM)
    deadline = time.monotonic() + drain
    while time.monotonic() < deadline and any(alive(pid) for pid in leaders):
        time.sleep(POLL)
    for pid in leaders:
        signal_quietly(os.killpg, pid, signal.SIGKILL)


def alive(pid: int) -> bool:
    """Whether a process runs. One that has ended may be unreaped for long: we are not its parent."""
    with contextlib.suppress(OSError, IndexError):
        state = Path(f"/proc/{pid}/stat").read_text("ascii", "replace").rpartition(")")[2].split()
        return state[0] != "Z"
    return signal_quietly(os.kill, pid, 0)


def signal_quietly(send: Callable[[int, int], None], pid: int, signum: int) -> bool:
    """Send a signal; whether there was somebody to get it."""
    try:
        send(pid, signum)
    except (ProcessLookupError, PermissionError):
        return False
    return True


if __name__ == "__main__":
    main(float(sys.argv[1]))
