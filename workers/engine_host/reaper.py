"""Starts an engine host and ends all that came of it: `python -I -S reaper.py DESCRIPTORS COMMAND...`.

A model may start processes: a pool, ffmpeg, the workers of a data loader. A kernel ends none of them with
their parent, and those that have put themselves into a group or a session of their own are found by no kill
of a group. So a small process stands between worker and host. Linux gives it whatever loses its parent below
it (PR_SET_CHILD_SUBREAPER, prctl(2)), so in the end all that lives is its own child. Elsewhere only the
host's process group is ended.

It ends all of them when the host ends, and when its standard input does, whose other end the worker holds: a
worker closes it to have its host killed, and a worker that is killed cannot keep it open. Then it ends as the
host did. Standard library only, without site: it costs 10 ms and a few MB.
"""

import contextlib
import ctypes
import os
import resource
import select
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

PR_SET_CHILD_SUBREAPER = 36
POLITE_SECONDS = 0.3
"""From SIGTERM to SIGKILL for what a dead host leaves behind: time to remove files and shared memory."""
TICK = 0.02
KILL = signal.SIGKILL
LAST_SECONDS = 10.0
"""After which a process that is stuck in the kernel is given up."""
LEFT_TO_THE_WORKER = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
"""A service manager may signal every process it knows of, while the worker still lets the host finish."""


def main(descriptors: list[int], command: list[str]) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    for signum in LEFT_TO_THE_WORKER:
        signal.signal(signum, signal.SIG_IGN)
    ended, wakes = os.pipe()
    os.set_blocking(wakes, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(wakes, warn_on_full_buffer=False)
    host = start(command)
    for descriptor in descriptors:
        os.close(descriptor)
    status = wait(host, ended)
    end_as(end_all(host, status))


def start(command: list[str]) -> int:
    """The host's process id. It leads a process group and inherits our inheritable descriptors."""
    nothing = (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0)
    return os.posix_spawn(
        command[0],
        command,
        os.environ,
        file_actions=[nothing],
        setpgroup=0,
        setsigdef=LEFT_TO_THE_WORKER,
    )


def wait(host: int, ended: int) -> int | None:
    """The host's wait status once it has ended, None when the worker wants it ended or is gone."""
    while True:
        ready, _, _ = select.select([0, ended], [], [])
        if 0 in ready:
            return None
        os.read(ended, 4096)
        status = reaped(host)
        if status is not None:
            return status


def end_all(host: int, status: int | None) -> int | None:
    """Kill the host if it lives (`status` is None), then all that is left. Returns its wait status."""
    if status is None:
        signal_quietly(os.kill, host, KILL)
    began = time.monotonic()
    while (spent := time.monotonic() - began) < LAST_SECONDS:
        found = reaped(host)
        status = found if status is None else status
        left = children()
        if status is not None and not left:
            break
        for pid in left:
            signal_quietly(os.kill, pid, KILL if spent > POLITE_SECONDS else signal.SIGTERM)
        time.sleep(TICK)
    if sys.platform != "linux":
        signal_quietly(os.killpg, host, KILL)
    return status


def reaped(host: int) -> int | None:
    """Let go of every child that has ended. Returns the host's wait status if it is among them."""
    found = None
    with contextlib.suppress(ChildProcessError):
        while True:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                break
            if pid == host:
                found = status
    return found


def children() -> list[int]:
    """Who has us for a parent now and runs. Those below them become our children when they are killed."""
    me, found = str(os.getpid()), []
    for entry in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError, IndexError):
            state, parent = entry.read_text("ascii", "replace").rpartition(")")[2].split()[:2]
            if parent == me and state != "Z":
                found.append(int(entry.parent.name))
    return found


def signal_quietly(send: Callable[[int, int], None], pid: int, signum: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        send(pid, signum)


def end_as(status: int | None) -> None:
    """End as a process with this wait status did, without a core file of our own."""
    if status is not None and os.WIFEXITED(status):
        os._exit(os.WEXITSTATUS(status))
    signum = os.WTERMSIG(status) if status is not None else signal.SIGKILL
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with contextlib.suppress(OSError):
        signal.signal(signum, signal.SIG_DFL)
    os.kill(os.getpid(), signum)


if __name__ == "__main__":
    main([int(number) for number in sys.argv[1].split(",")], sys.argv[2:])
