"""gunicorn's reading of requests, for less: a head that came before, byte for byte, is not parsed again.

Clients repeat themselves: same token, same media types, often the same length. What a head says follows
from its bytes alone, since no peer is trusted more than others. One that is refused is parsed each time.
"""

from typing import Any

from gunicorn import http
from gunicorn.http.body import LengthReader
from gunicorn.http.message import Request as GunicornRequest
from gunicorn.http.parser import RequestParser

MOST = 1024
"""Heads that are remembered; with as many, all are forgotten."""
LONGEST = 2048
"""Bytes of the longest of them."""
_END = b"\r\n\r\n"
_SAID = (
    "method",
    "uri",
    "path",
    "query",
    "fragment",
    "version",
    "headers",
    "_expected_100_continue",
    "in_wsgi",
)
_heads: dict[bytes, dict[str, Any]] = {}


class Request(GunicornRequest):  # type: ignore[misc]
    """A request. Its framing is derived from its headers each time, by gunicorn.

    `in_wsgi` is for whoever says its head in WSGI's words: all requests with the same head share it.
    """

    in_wsgi: dict[str, Any]

    def parse(self, unreader: Any) -> bytes:
        """Read the head; what came behind it. Raises gunicorn's `ParseException`."""
        buffer = bytearray()
        self.read_into(unreader, buffer, stop=True)
        end = buffer.find(_END) + len(_END)
        head = bytes(buffer[:end]) if len(_END) <= end <= LONGEST else b""
        if (said := _heads.get(head)) is not None:
            self.__dict__.update(said)
            return bytes(buffer[end:])
        self.in_wsgi = {}
        unreader.unread(bytes(buffer))
        rest: bytes = super().parse(unreader)
        # Behind a proxy protocol's line the bytes before the request are somebody else's.
        if head and self.cfg.proxy_protocol == "off":
            if len(_heads) >= MOST:
                _heads.clear()
            _heads[head] = {name: getattr(self, name) for name in _SAID}
        return rest


class Parser(RequestParser):  # type: ignore[misc]
    """Reads the requests of one connection."""

    mesg_class = Request

    def finish_body(self, deadline: float | None = None, max_bytes: int | None = None) -> bool:
        """Read what is left of a body; False where that cannot be done. Mostly nothing is."""
        body = getattr(self.mesg, "body", None)
        if (
            body is not None
            and not body.failed
            and isinstance(body.reader, LengthReader)
            and body.reader.length == 0
        ):
            return True
        return bool(super().finish_body(deadline, max_bytes))


def install() -> None:
    """Make gunicorn do so; it has no setting for it."""
    http.RequestParser = Parser
