"""An answer as gunicorn makes it, of which the head leaves together with the first part of the body."""

import re
import time
from email.utils import formatdate
from functools import lru_cache
from typing import Any

from gunicorn.http import wsgi
from gunicorn.http.errors import InvalidResponseHeader
from gunicorn.util import hop_headers

_HEADERS = re.compile(r"([!#-'*+.^_`|~0-9A-Za-z-]+: [ \t\x21-\x7e\x80-\xff]*\r\n)*")
"""Lines of a head (RFC 9110, 5.1 and 5.5), of which a value could still bring others along."""


class Response(wsgi.Response):  # type: ignore[misc]
    """gunicorn's, for an answer over HTTP/1; `sock` is an `api.server.connection.Connection`."""

    sock: Any
    headers_sent: bool

    def process_headers(self, headers: list[tuple[str, str]]) -> None:
        """Take over what the application says, but for what is the server's own to say.

        gunicorn looks at each name and value by itself; here `send_headers` does at all of them at once.
        """
        for name, value in headers:
            lowered = name.lower()
            if lowered == "content-length":
                self.response_length = int(value)
            if lowered not in hop_headers:
                self.headers.append((name, value))

    def default_headers(self) -> list[str]:
        """The first lines of the head. Of gunicorn's they leave out upgrades, which no route here knows."""
        connection = "close" if self.should_close() else "keep-alive"
        chunked = "Transfer-Encoding: chunked\r\n" if self.chunked else ""
        return [
            f"HTTP/{self.req.version[0]}.{self.req.version[1]} {self.status}\r\n"
            f"Server: truthgpt\r\nDate: {_date(int(time.time()))}\r\n"
            f"Connection: {connection}\r\n{chunked}"
        ]

    def send_headers(self) -> None:
        """Hold the head until something is sent behind it. Raises `InvalidResponseHeader`."""
        if self.headers_sent:
            return
        lines = "".join([f"{name}: {value}\r\n" for name, value in self.headers])
        if lines.count("\n") != len(self.headers) or _HEADERS.fullmatch(lines) is None:
            # Without the values: they may be secret.
            raise InvalidResponseHeader(", ".join(repr(name) for name, _ in self.headers))
        self.sock.hold(f"{self.default_headers()[0]}{lines}\r\n".encode("latin-1"))
        self.headers_sent = True

    def close(self) -> None:
        """End the answer; one without a body is no more than its head."""
        super().close()
        self.sock.release()


@lru_cache(maxsize=2)
def _date(second: int) -> str:
    return formatdate(second, usegmt=True)
