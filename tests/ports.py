"""Ports for servers that tests start: two test processes are never given the same one."""

import fcntl
import functools
import os
import secrets
import socket
import tempfile
from contextlib import suppress
from pathlib import Path

_given: set[int] = set()


def free_port() -> int:
    """A port that nobody listens on, below those that the system gives to connections as they come.

    It is the caller's until its process ends: who asked for it binds it later, and may give it up for a
    while, and meanwhile no other test process of this user is given it.
    """
    while True:
        port = 10_000 + secrets.randbelow(20_000)
        with suppress(OSError), socket.socket() as listener:
            listener.bind(("127.0.0.1", port))
            if reserve(port):
                return port


def reserve(port: int) -> bool:
    """Make `port` this process' own; False where it is somebody's already.

    It is a lock on one byte of a file, which the system takes back however the process ends.
    """
    if port in _given:
        return False
    try:
        fcntl.lockf(_ports(), fcntl.LOCK_EX | fcntl.LOCK_NB, 1, port)
    except OSError:
        return False
    _given.add(port)
    return True


@functools.cache
def _ports() -> int:
    """The file of the locks, open to the end: to close it would give all of them back."""
    name = Path(tempfile.gettempdir(), f"truthgpt-test-ports-{os.getuid()}")
    return os.open(name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
