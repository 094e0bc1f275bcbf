"""gunicorn's exchange of a request for an answer, for less: the same WSGI, with fewer steps and system calls.

What is out of the ordinary (a client that waits for `100 Continue`, HTTP/2, an answer to HEAD, headers
that are refused) is left to gunicorn itself.
"""

import re
import ssl
import time
from email.utils import formatdate
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import gevent
from gunicorn import util
from gunicorn.http import message, wsgi
from gunicorn.http.body import LengthReader
from gunicorn.http.errors import InvalidResponseHeader

from api.http.sse.connection import BODY_IS_HERE, PUSH
from api.server.environ import PREFIXED, environment

if TYPE_CHECKING:
    # The app is imported after gevent has patched the standard library, and this is before.
    from api.http.reply import Reply

PUSHED = 4096
"""Bytes of the largest part that is pushed."""
_create = wsgi.create
_HEAD = re.compile(r"(?:[!#$%&'*+.^_`|~0-9A-Za-z-]+: [ \t\x21-\x7e\x80-\xff]*\r\n)*")
"""Header lines as RFC 9110 has them (5.5, 5.6.2)."""
_BODILESS = ("1", "204", "304")
_hoppish = lru_cache(maxsize=256)(util.is_hoppish)


class _Gathered(list[bytes]):
    """Takes the place of a socket."""

    sendall = list.append


class Response(wsgi.Response):  # type: ignore[misc]
    """An answer. Its headers are looked at all together, and leave with the first part of its body."""

    sock: Any
    status: str | None
    headers_sent: bool
    chunked: bool
    sent: int
    _head = ""
    _rest: "gevent.Greenlet[..., OSError | None] | None" = None

    def start_response(self, status: str, headers: Any, exc_info: Any = None) -> Any:
        """WSGI's `start_response`."""
        head = "".join([f"{name}: {value}\r\n" for name, value in headers])
        length = _plain(self.req.method, status, headers, head)
        if length is None or self.status is not None or exc_info:
            return super().start_response(status, headers, exc_info)
        self.status = status
        self.status_code = int(status[:3])
        self.response_length = length
        self._head = head
        return self.write

    def send_headers(self) -> None:
        """Send the head, if it has not been sent."""
        if not self._head:
            super().send_headers()
        elif not self.headers_sent:
            self.headers_sent = True
            lines = "".join([*self.default_headers(), self._head, "\r\n"])
            self.sock.sendall(lines.encode("latin-1"))

    def write(self, arg: bytes) -> None:
        """Send a part of the body, behind the head if that is still to be sent."""
        self._settle()
        gathered, sock = _Gathered(), self.sock
        self.sock = gathered
        try:
            super().write(arg)
        finally:
            self.sock = sock
        _send(sock, b"".join(gathered))

    def push(self, part: bytes) -> bool:
        """Send a part of a body that is under way, between two calls of `write`; never waits.

        False: nothing of it was sent, for `write` to do so or to say what is wrong. Whoever has news for many
        readers does not have to wake each of them.
        """
        if not (self.chunked and self.headers_sent) or len(part) > PUSHED:
            return False
        if self._rest is not None or isinstance(self.sock, ssl.SSLSocket):
            return False
        data = b"%x\r\n%b\r\n" % (len(part), part)
        try:
            sent = self.sock.send(data, 0, 0.0)
        except OSError:
            return False
        if sent < len(data):
            self._rest = gevent.spawn(_send_all, self.sock, data[sent:])
        self.sent += len(part)
        return True

    def close(self) -> None:
        """End the body."""
        self._settle()
        super().close()

    def _settle(self) -> None:
        """Wait for the rest of what was pushed. Raises `OSError` where it could not be sent."""
        rest, self._rest = self._rest, None
        if rest is not None and (error := rest.get()) is not None:
            raise error


def _plain(method: str, status: str, headers: Any, head: str) -> int | None:
    """The length of an answer that is all here; None for one that gunicorn must look at."""
    if method == "HEAD" or status.startswith(_BODILESS) or head.count("\n") != len(headers):
        return None
    if _HEAD.fullmatch(head) is None:
        return None
    length = None
    for name, value in headers:
        if name == "Content-Length":
            length = int(value)
        elif _hoppish(name):
            return None
    return length


def _send(sock: Any, data: bytes) -> None:
    """gevent's `sendall` asks the kernel for the size of its buffer first, each time."""
    sent = sock.send(data)
    if sent < len(data):
        sock.sendall(memoryview(data)[sent:])


def _send_all(sock: Any, data: bytes) -> OSError | None:
    try:
        sock.sendall(data)
    except OSError as error:
        return error
    return None


def create(
    req: Any,
    sock: Any,
    client: Any,
    server: Any,
    cfg: Any,
    response_class: Any = None,
    response_args: Any = (),
) -> tuple[Any, dict[str, Any]]:
    """A request's response and WSGI environment (PEP 3333), as `gunicorn.http.wsgi.create` makes them."""
    if (
        response_class is not None
        or req._expected_100_continue
        or req.proxy_protocol_info
        or PREFIXED
        or not isinstance(client, tuple)
        or not isinstance(server, tuple)
    ):
        return _create(req, sock, client, server, cfg, response_class, response_args)  # type: ignore[no-any-return]
    response = Response(req, sock, cfg)
    environ = {
        **(req.in_wsgi or environment(req, cfg)),
        "wsgi.input": req.body,
        "gunicorn.socket": sock,
        PUSH: response.push,
        "SERVER_NAME": server[0],
        "SERVER_PORT": str(server[1]),
        "REMOTE_ADDR": client[0],
        "REMOTE_PORT": str(client[1]),
    }
    body = req.body.reader
    if isinstance(body, LengthReader) and body.length <= req.unreader.buf.getbuffer().nbytes:
        environ[BODY_IS_HERE] = True
    return response, environ


@lru_cache(maxsize=2)
def _in_words(second: int) -> str:
    return formatdate(second, usegmt=True)


@lru_cache(maxsize=64)
def _opening(status: str, second: int, keeps: bool) -> str:
    connection = "keep-alive" if keeps else "close"
    return (
        f"HTTP/1.1 {status}\r\nServer: {wsgi.SERVER}\r\nDate: {_in_words(second)}\r\n"
        f"Connection: {connection}\r\n"
    )


def packed(reply: "Reply", *, keeps: bool) -> bytes:
    """An answer as it goes out, as gunicorn would send it; `keeps`: its connection stays.

    Raises gunicorn's `InvalidResponseHeader`.
    """
    headers = reply.headers
    values = "".join(headers.values())
    if not (values.isascii() and values.isprintable()):
        raise InvalidResponseHeader(", ".join(headers))
    lines = "\r\n".join(map(": ".join, headers.items()))
    head = f"{_opening(reply.status, int(time.time()), keeps)}{lines}\r\n\r\n"
    return head.encode("ascii") + reply.body


def send_whole(sock: Any, data: bytes, seconds: float) -> None:
    """Send it all to a socket without a timeout of its own. Raises `OSError`, `TimeoutError` after `seconds`
    in which not all of it was taken.
    """
    try:
        sent = sock.send(data, 0, 0.0)
    except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
        sent = 0
    if sent < len(data):
        sock.settimeout(seconds)
        sock.sendall(memoryview(data)[sent:])
        sock.settimeout(None)


def _http_date(timestamp: float | None = None) -> str:
    return _in_words(int(time.time() if timestamp is None else timestamp))


def _untrusted(message: Any) -> bool:  # noqa: ARG001 - gunicorn's signature
    return False


def install() -> None:
    """Make gunicorn do so; it has no setting for it."""
    wsgi.create = create
    wsgi.Response = Response
    # The same words for a second, which gunicorn would find anew for every answer.
    util.http_date = _http_date
    # No peer may set more than others (`forwarded_allow_ips` is empty), so its address need not be parsed.
    message.Message._peer_is_trusted_proxy = _untrusted
