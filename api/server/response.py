"""An answer as gunicorn makes it, of which the head leaves together with the first part of the body."""

import re
import time
from email.utils import formatdate
from functools import lru_cache
from typing import Any

from gunicorn.http import wsgi
from gunicorn.http.errors import InvalidResponseHeader
from gunicorn.util import hop_headers

_TOKEN = re.compile(r"[!#-'*+.^_`|~0-9A-Za-z-]+")
_TEXT = bytes([0x09, *range(0x20, 0x7F), *range(0x80, 0x100)])
"""What a line of a head is made of (RFC 9110, 5.5)."""
_END = b"\r\n"


class Response(wsgi.Response):  # type: ignore[misc]
    """gunicorn's, for an answer over HTTP/1; `sock` is an `api.server.connection.Connection`."""

    sock: Any
    headers_sent: bool
    closes: bool
    """Whether the connection ends with this answer, as its head has said."""

    def process_headers(self, headers: list[tuple[str, str]]) -> None:
        """Take over what the application says, but for what is the server's own to say.

        gunicorn looks at each value by itself; here `send_headers` does at all of them at once. Raises
        `InvalidResponseHeader` for a name that is none.
        """
        for header in headers:
            lowered = _lowered(header[0])
            if lowered == "content-length":
                self.response_length = int(header[1])
            if lowered not in hop_headers:
                self.headers.append(header)

    def default_headers(self) -> list[str]:
        """The first lines of the head. Of gunicorn's they leave out upgrades, which no route here knows."""
        self.closes = self.should_close()
        chunked = "Transfer-Encoding: chunked\r\n" if self.chunked else ""
        return [
            f"HTTP/{self.req.version[0]}.{self.req.version[1]} {self.status}\r\n"
            f"Server: truthgpt\r\nDate: {_date(int(time.time()))}\r\n"
            f"Connection: {'close' if self.closes else 'keep-alive'}\r\n{chunked}"
        ]

    def send_headers(self) -> None:
        """Hold the head until something is sent behind it. Raises `InvalidResponseHeader`."""
        if self.headers_sent:
            return
        lines = [f"{name}: {value}\r\n" for name, value in self.headers]
        try:
            own = "".join(lines).encode("latin-1")
        except UnicodeEncodeError:
            own = b""
        if own.translate(None, _TEXT) != _END * len(lines):
            # Without the values: they may be secret.
            raise InvalidResponseHeader(", ".join(repr(name) for name, _ in self.headers))
        self.sock.hold(self.default_headers()[0].encode() + own + _END)
        self.headers_sent = True

    def close(self) -> None:
        """End the answer; one without a body is no more than its head."""
        super().close()
        self.sock.release()


@lru_cache(maxsize=256)
def _lowered(name: str) -> str:
    if _TOKEN.fullmatch(name) is None:
        raise InvalidResponseHeader(repr(name))
    return name.lower()


@lru_cache(maxsize=2)
def _date(second: int) -> str:
    return formatdate(second, usegmt=True)
