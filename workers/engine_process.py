"""An engine host as a process: how it is started, and how much memory it holds."""

import os
import socket
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from workers.host.channel import Channel, to_host
from workers.host.messages import Command, Report

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True, slots=True)
class Host:
    """A running engine host and our end of the socket to it."""

    process: "subprocess.Popen[bytes]"
    channel: Channel[Command, Report]

    def resident(self) -> int:
        """Its resident memory in bytes; 0 when it is gone."""
        try:
            return int(psutil.Process(self.process.pid).memory_info().rss)
        except psutil.Error:
            return 0


_ahead: list[Host] = []


def spawn_ahead() -> None:
    """Start the host that the first `spawn` will want: what it loads takes longest, so it begins first.

    For the thread that lives as long as the worker, and where the environment names the model.
    """
    # `spawn` says what is wrong.
    with suppress(OSError):
        _ahead.append(_start(None))


def spawn(python: Path | None = None) -> Host:
    """Start a host with this interpreter, or with `python`, which gets our source by its path.

    Raises `OSError` when the interpreter cannot be started.
    """
    early = _ahead.pop() if _ahead else None
    if early is None or python is not None:
        if early is not None:
            early.channel.close()
            early.process.kill()
            early.process.wait()
        return _start(python)
    return early


def _start(python: Path | None) -> Host:
    environment = os.environ | {"TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1"}
    if python is not None:
        environment["PYTHONPATH"] = str(ROOT)
    ours, theirs = socket.socketpair()
    with theirs:
        try:
            process = subprocess.Popen(
                [str(python or sys.executable), "-m", "workers.host", str(theirs.fileno())],
                pass_fds=(theirs.fileno(),),
                stdin=subprocess.DEVNULL,
                env=environment,
            )
        except OSError:
            ours.close()
            raise
    return Host(process, to_host(ours))
