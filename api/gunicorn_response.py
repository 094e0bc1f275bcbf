"""gunicorn's answers, with fewer system calls: head and first part leave in one piece."""

import time
from email.utils import formatdate
from functools import lru_cache
from typing import Any

from gunicorn import util
from gunicorn.http import wsgi


class _Gathered(list[bytes]):
    """Takes the place of a socket."""

    sendall = list.append


class Response(wsgi.Response):  # type: ignore[misc]
    """gunicorn sends the head by itself: a system call more, and the client is woken twice."""

    sock: Any

    def write(self, arg: bytes) -> None:
        """Send a part of the body, behind the head if that is still to be sent."""
        if self.headers_sent:
            super().write(arg)
            return
        gathered, sock = _Gathered(), self.sock
        self.sock = gathered
        try:
            super().write(arg)
        finally:
            self.sock = sock
        sock.sendall(b"".join(gathered))


@lru_cache(maxsize=2)
def _in_words(second: int) -> str:
    return formatdate(second, usegmt=True)


def _http_date(timestamp: float | None = None) -> str:
    return _in_words(int(time.time() if timestamp is None else timestamp))


def install() -> None:
    """Make gunicorn answer this way; it has no setting for either."""
    wsgi.Response = Response
    # The same words for a second, which gunicorn would find anew for every answer.
    util.http_date = _http_date
