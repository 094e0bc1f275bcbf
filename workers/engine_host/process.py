"""An engine host as a process: starts it below its reaper, ends it, and measures its memory."""

import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from workers.engine_host.environment import host_environment
from workers.host_protocol.channel import Channel, to_host
from workers.host_protocol.messages import Command, Report
from workers.host_protocol.progress import Call, Progress, new_page

ROOT = Path(__file__).resolve().parents[2]
REAPER = Path(__file__).with_name("reaper.py")
"""Run, and never imported: the worker needs nothing of it."""
END_SECONDS = 12.0
"""A little more than a reaper takes at most."""


@dataclass(frozen=True, slots=True)
class Host:
    """A running engine host below its reaper, which ends as it does, and our ends of what is between us."""

    reaper: "subprocess.Popen[bytes]"
    channel: Channel[Command, Report]
    progress: Progress

    @property
    def call(self) -> Call:
        """The call that the host is in, or was in when it ended."""
        return self.progress.read()

    @property
    def pid(self) -> int | None:
        """The host's process id, None before it said so."""
        return self.call.pid or None

    def kill(self) -> None:
        """Kill it now; what it started ends a moment later. Does not wait for any of it."""
        with suppress(psutil.Error):
            # Its number may be somebody else's by now.
            if self.pid and (host := psutil.Process(self.pid)).ppid() == self.reaper.pid:
                host.kill()
        assert self.reaper.stdin is not None
        self.reaper.stdin.close()

    def end(self) -> int:
        """Kill it if it lives. Returns its exit status, or a signal as a negative number."""
        self.kill()
        try:
            return self.reaper.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            self.reaper.kill()
            return self.reaper.wait()
        finally:
            self.channel.close()

    def resident(self) -> int:
        """The host's resident memory in bytes; 0 when it is gone."""
        try:
            return int(psutil.Process(self.pid).memory_info().rss) if self.pid else 0
        except psutil.Error:
            return 0


_ahead: list[Host] = []


def spawn_ahead() -> None:
    """Start the host that the first `spawn` will want: what it loads takes longest, so it begins first.

    For where the environment names the model.
    """
    # `spawn` says what is wrong.
    with suppress(OSError):
        _ahead.append(_start(Path(sys.executable), host_environment(os.environ)))


def spawn(python: Path | None = None, named: Sequence[str] = (), *, where: str = "env") -> Host:
    """Start a host with this interpreter, or with `python`, which gets our source by its path.

    `named`: the variables of our environment that it gets beside what every host needs. Raises `OSError` when
    the interpreter cannot be started, `ConfigError` when a variable is not set.
    """
    environment = host_environment(os.environ, named, where=where)
    early = _ahead.pop() if _ahead else None
    if early is not None and python is None and not named:
        return early
    if early is not None:
        early.end()
    if python is not None:
        environment["PYTHONPATH"] = str(ROOT)
    return _start(python or Path(sys.executable), environment)


def _start(python: Path, environment: dict[str, str]) -> Host:
    if not os.access(python, os.X_OK):
        raise OSError(f"{python} is no program that can be run")
    ours, theirs = socket.socketpair()
    with theirs, new_page() as page:
        given = (theirs.fileno(), page)
        told = [str(descriptor) for descriptor in given]
        reap = (sys.executable, "-I", "-S", str(REAPER), ",".join(told))
        try:
            reaper = subprocess.Popen(
                [*reap, str(python), "-m", "workers.host", *told],
                pass_fds=given,
                stdin=subprocess.PIPE,
                env=environment | {"TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1"},
                start_new_session=True,
            )
        except OSError:
            ours.close()
            raise
        return Host(reaper, to_host(ours), Progress(page))
