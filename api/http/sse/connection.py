"""The client's end of a connection, as far as the server that runs the app lets it be seen."""

import socket
import time
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

LOOK_SECONDS = 1.0
PUSHED = 4096
"""Bytes of the largest frame that is pushed."""


def deadline(environ: Mapping[str, Any], seconds: float) -> AbstractContextManager[object]:
    """Bound the whole of a read from the client, however it drips. Raises `TimeoutError`.

    Only on a connection of this server's worker: another one has no way to end a read between two bytes.
    """
    within = getattr(environ.get("gunicorn.socket"), "within", None)
    if within is None:
        return nullcontext()
    bound: AbstractContextManager[object] = within(seconds)
    return bound


class Connection:
    """Tells whether the client has hung up; looks at the socket at most once in `LOOK_SECONDS`.

    Where there is no socket to look at (a test client, another server) the client counts as present and
    a failing write tells.
    """

    def __init__(self, environ: Mapping[str, Any]) -> None:
        self._socket = environ.get("gunicorn.socket")
        self._environ = environ
        self._rest: Any = None
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

    @property
    def pushes(self) -> bool:
        """Whether `push` can send at all: on a plain socket, an answer that is sent in chunks."""
        return (
            self._socket is not None
            and self._environ["SERVER_PROTOCOL"] == "HTTP/1.1"
            and self._environ["REQUEST_METHOD"] != "HEAD"
            and self._environ["wsgi.url_scheme"] == "http"
        )

    def push(self, frame: bytes) -> bool:
        """Send a part of a body that is under way, between two parts that the server sends; never waits.

        False: nothing of it was sent, and the server is to send it. A hub that has news for many readers does
        not have to wake each of them.
        """
        if self._rest is not None or len(frame) > PUSHED or self._socket is None:
            return False
        data = b"%x\r\n%b\r\n" % (len(frame), frame)
        try:
            sent = self._socket.send(data, 0, 0.0)
        except OSError:
            # Full or broken: the server's own write finds out which, and waits or ends the stream.
            return False
        if sent < len(data):
            import gevent

            self._rest = gevent.spawn(_send, self._socket, data[sent:])
        return True

    def await_pushed(self) -> None:
        """Wait until all that was pushed is out. Raises `OSError` where it could not be sent."""
        rest, self._rest = self._rest, None
        if rest is not None and (error := rest.get()) is not None:
            raise error

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


def _send(sock: Any, data: bytes) -> OSError | None:
    try:
        sock.sendall(data)
    except OSError as error:
        return error
    return None
