"""An answer as gunicorn makes it, of which the head leaves together with the first part of the body."""

import time
from email.utils import formatdate
from functools import lru_cache
from typing import Any

from gunicorn.http import wsgi


class Response(wsgi.Response):  # type: ignore[misc]
    """gunicorn's, for `wsgi.create(response_class=…)`; `sock` is an `api.server.worker.Connection`."""

    sock: Any
    headers_sent: bool

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
        """Hold the head until something is sent behind it."""
        if self.headers_sent:
            return
        lines = [*self.default_headers(), *(f"{name}: {value}\r\n" for name, value in self.headers)]
        self.sock.hold("".join([*lines, "\r\n"]).encode("latin-1"))
        self.headers_sent = True

    def close(self) -> None:
        """End the answer; one without a body is no more than its head."""
        super().close()
        self.sock.release()


@lru_cache(maxsize=2)
def _date(second: int) -> str:
    return formatdate(second, usegmt=True)
