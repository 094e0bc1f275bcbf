"""The client's end of a connection, as far as the server that runs the app lets it be seen."""

import socket
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

LOOK_SECONDS = 1.0
PUSH = "truthgpt.push"
"""Where a WSGI environment has it."""
BODY_IS_HERE = "truthgpt.body_is_here"
"""In a WSGI environment when all of the request's body came with its head."""


def deadline(environ: Mapping[str, Any], seconds: float) -> AbstractContextManager[object]:
    """Bound the whole of a read from the client, however it drips. Raises `TimeoutError`.

    Only under gevent's worker: another one has no way to end a read between two bytes.
    """
    if "gunicorn.socket" not in environ:
        return nullcontext()
    from gevent import Timeout

    bound: AbstractContextManager[object] = Timeout(seconds, TimeoutError)
    return bound


class Connection:
    """Tells whether the client has hung up; looks at the socket at most once in `LOOK_SECONDS`.

    Where there is no socket to look at (a test client, another server) the client counts as present and
    a failing write tells.

    `push`: see `api.server.response.Response.push`; None where the server cannot.
    """

    def __init__(self, environ: Mapping[str, Any]) -> None:
        self._socket = environ.get("gunicorn.socket")
        self.push: Callable[[bytes], bool] | None = environ.get(PUSH)
        self._looked = time.monotonic()
        self._gone = False

    def gone(self) -> bool:
        """Whether the client is known to have hung up."""
        now = time.monotonic()
        if self._socket is None or self._gone or now - self._looked < LOOK_SECONDS:
            return self._gone
        self._looked = now
        self._gone = self._hung_up()
        return self._gone

    def limit_writes(self, seconds: float) -> None:
        """End the connection when the client takes nothing for so long."""
        if self._socket is not None:
            self._socket.settimeout(seconds)

    def _hung_up(self) -> bool:
        sock = self._socket
        assert sock is not None
        timeout = sock.gettimeout()
        try:
            sock.settimeout(0)
            return not sock.recv(1, socket.MSG_PEEK)
        except (BlockingIOError, ValueError):
            # Nothing to read: the client is there. TLS sockets cannot peek: a write will tell.
            return False
        except OSError:
            return True
        finally:
            if sock.fileno() >= 0:
                sock.settimeout(timeout)
