"""gunicorn's reading of requests, for less: a head that came before, byte for byte, is not parsed again.

Clients repeat themselves: same token, same media types, often the same length. What a head says follows
from its bytes alone, since no peer is trusted more than others. One that is refused is parsed each time.

A request with such a head for a route that answers at once (`api.http.fast_path`) whose body came with it is
`Whole` and passes gunicorn by. Whatever else comes is gunicorn's, on the same connection.
"""

import socket
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext, suppress
from functools import partial
from typing import TYPE_CHECKING, Any
from wsgiref.types import WSGIEnvironment

from gunicorn import http
from gunicorn.http.body import LengthReader
from gunicorn.http.message import Request as GunicornRequest
from gunicorn.http.parser import RequestParser

from api.server.deadline import Deadline
from api.server.environ import PREFIXED, environment

if TYPE_CHECKING:
    # The app is imported after gevent has patched the standard library, and this is before.
    from api.http.fast_path import Route

MOST = 1024
"""Heads that are remembered; with as many, all are forgotten."""
LONGEST = 2048
"""Bytes of the longest of them."""
HEAD_SECONDS = 5.0
"""How long a request's line and headers may take, however they drip."""
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
Find = Callable[[WSGIEnvironment], "Route | None"]
"""The route of a request whose answer is whole; None for any other."""


class Request(GunicornRequest):  # type: ignore[misc]
    """A request. Its framing is derived from its headers each time, by gunicorn.

    `in_wsgi` is its head in WSGI's words: all requests with the same head share it, others have none.
    `unknown`: its head, where it is to be remembered.
    """

    in_wsgi: dict[str, Any] | None = None
    unknown: bytes = b""

    def parse(self, unreader: Any) -> bytes:
        """Read the head; what came behind it. Raises gunicorn's `ParseException`."""
        buffer = bytearray()
        self.read_into(unreader, buffer, stop=True)
        end = buffer.find(_END) + len(_END)
        head = bytes(buffer[:end]) if len(_END) <= end <= LONGEST else b""
        if (known := _heads.get(head)) is not None:
            self.__dict__.update(known.said)
            return bytes(buffer[end:])
        unreader.unread(bytes(buffer))
        rest: bytes = super().parse(unreader)
        # Behind a proxy protocol's line the bytes before the request are somebody else's.
        if self.cfg.proxy_protocol == "off":
            self.unknown = head
        return rest


class Head:
    """A head that came before. `said` are its request's attributes.

    `stop` is its route and `length` that of its body, where such a request may be `Whole`.
    """

    __slots__ = ("length", "said", "stop")

    def __init__(self, request: Request, find: Find) -> None:
        request.in_wsgi = environ = environment(request, request.cfg) if not PREFIXED else None
        self.said = {name: getattr(request, name) for name in _SAID}
        self.length = 0
        self.stop: Route | None = None
        body = request.body.reader
        ordinary = (
            isinstance(body, LengthReader)
            and request.version == (1, 1)
            and not request.should_close()
            and not request._expected_100_continue
        )
        if ordinary and environ is not None:
            self.length = body.length
            self.stop = find(environ)


_heads: dict[bytes, Head] = {}


class Whole:
    """A request that is all here. `in_wsgi` is its head in WSGI's words, shared with others."""

    __slots__ = ("body", "in_wsgi", "proxy_protocol_info", "stop")

    def __init__(self, stop: "Route", in_wsgi: WSGIEnvironment, body: bytes) -> None:
        self.stop = stop
        self.in_wsgi = in_wsgi
        self.body = body
        self.proxy_protocol_info: dict[str, Any] | None = None


def _nowhere(environ: WSGIEnvironment) -> None:  # noqa: ARG001 - a `Find`
    return None


class Idle(Deadline):
    """Around a wait for a client's next request."""

    def __init__(self, source: Any, seconds: float) -> None:
        super().__init__(seconds)
        self._source = source

    def __enter__(self) -> None:
        _idle.add(self._source)
        super().__enter__()

    def __exit__(self, *error: Any) -> bool:
        _idle.discard(self._source)
        return super().__exit__(*error)


_idle: set[Any] = set()


def let_idle_go() -> None:
    """End the connections that wait for a next request, each as if its client had."""
    for source in tuple(_idle):
        with suppress(OSError):
            source.shutdown(socket.SHUT_RD)


class Parser(RequestParser):  # type: ignore[misc]
    """Reads the requests of one connection, which may idle for `keepalive` seconds between two of them. The
    first head, and each that has begun, is to be here within `HEAD_SECONDS`.

    `find` tells which requests may be `Whole`.
    """

    mesg_class = Request
    mesg: Any

    def __init__(self, cfg: Any, source: Any, source_addr: Any, find: Find = _nowhere) -> None:
        super().__init__(cfg, source, source_addr)
        # A peer without an address, on a Unix socket, is described by gunicorn.
        self._addressed = isinstance(source_addr, tuple)
        self._find = find
        self._ahead = b""
        self._begun = False
        self._head: AbstractContextManager[object] = nullcontext()
        self._idle: AbstractContextManager[object] = nullcontext()
        if cfg.keepalive and hasattr(source, "recv"):
            self._head, self._idle = Deadline(HEAD_SECONDS), Idle(source, cfg.keepalive)

    def __next__(self) -> Request | Whole:
        if self._goes_on():
            with self._head:
                return self._read()
        raise StopIteration

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

    def _goes_on(self) -> bool:
        """Whether there is a next request: what is left of the last one has come, and it begins, in time."""
        if self.mesg is not None:
            with self._head:
                if self.mesg.should_close() or not self.finish_body():
                    return False
                self.mesg, self._ahead = None, self.unreader.take_buffered()
        if self.mesg is None and self._begun and not self._ahead:
            with self._idle:
                self._ahead = self.unreader.chunk()
            return bool(self._ahead)
        self._begun = True
        return self.mesg is None

    def _read(self) -> Request | Whole:
        data = self._ahead or self.unreader.chunk()
        end = data.find(_END) + len(_END)
        known = _heads.get(data[:end]) if self._addressed else None
        if known is not None and known.stop is not None and len(data) >= end + known.length:
            self._ahead = data[end + known.length :]
            return Whole(known.stop, known.said["in_wsgi"], data[end : end + known.length])
        self._ahead = b""
        self.unreader.unread(data)
        request: Request = super().__next__()
        if request.unknown:
            self._remember(request)
        return request

    def _remember(self, request: Request) -> None:
        if len(_heads) >= MOST:
            _heads.clear()
        _heads[request.unknown] = Head(request, self._find)


def install(find: Find) -> None:
    """Make gunicorn do so; it has no setting for it."""
    http.RequestParser = partial(Parser, find=find)
