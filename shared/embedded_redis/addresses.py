"""Ports and paths that a server can listen at, and waiting until it does."""

import socket
import time
from collections.abc import Callable
from pathlib import Path

POLL = 0.02
"""Seconds between two looks at a condition."""
LONGEST_SOCKET = 103
"""Bytes of a socket's path: 107 on Linux, 103 on macOS."""


def holds_a_socket(path: Path) -> bool:
    """Whether a server could listen at this path, and a URL name it. A socket of that name is removed."""
    try:
        if len(str(path).encode()) > LONGEST_SOCKET:
            return False
        path.unlink(missing_ok=True)
        with socket.socket(socket.AF_UNIX) as probe:
            probe.bind(str(path))
        path.unlink()
    except (OSError, UnicodeEncodeError):
        return False
    return True


def free_port(host: str = "127.0.0.1", port: int = 0) -> int:
    """A TCP port of `host` that nobody listens on now: `port`, or any for 0. Raises `OSError`."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.create_server((host, port), family=family) as listener:
        return int(listener.getsockname()[1])


def wait_until(condition: Callable[[], bool], deadline: float) -> bool:
    """Poll until `condition` holds; False when it does not within `deadline` seconds."""
    end = time.monotonic() + deadline
    while not condition():
        if time.monotonic() >= end:
            return False
        time.sleep(POLL)
    return True
