"""gunicorn's gevent worker, whose answers to what is not even HTTP are problem documents too."""

import logging
import secrets
import time
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from io import BytesIO
from typing import Any

import gevent
import msgspec
from gevent import GreenletExit
from gunicorn.http import wsgi
from gunicorn.http.errors import LimitRequestHeaders, LimitRequestLine, ParseException
from gunicorn.workers import ggevent

from api.http.sse.connection import BODY_IS_HERE
from api.server import balance, request, response
from api.server.request import Whole
from shared.domain.errors import PROBLEMS

_REASONS = {400: "Bad Request", 414: "URI Too Long", 431: "Request Header Fields Too Large"}
STALLED_SECONDS = 60.0
"""A client that takes nothing of its answer, or sends nothing of its request, for so long is cut off."""
DRAIN_LOOK = 0.5
"""Seconds between two looks at whether a drain has begun."""
board = balance.Board()
_log = logging.getLogger(__name__)
_NO_BOUND = nullcontext()
# What serves is nobody's business: it tells which holes to try.
wsgi.SERVER = "truthgpt"
response.install()


class Worker(ggevent.GeventWorker):  # type: ignore[misc]
    """Requests that never reach the app are refused here; a drain closes connections as they fall idle."""

    alive: bool

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.place = board.place()

    def load_wsgi(self) -> None:
        """Load the app, once a process."""
        super().load_wsgi()
        request.install(self.wsgi.fast_path.whole)

    def timeout_ctx(self) -> AbstractContextManager[object]:
        """Around the reading of each head: none, for the parser has a deadline."""
        return _NO_BOUND

    def run(self) -> None:
        """Serve until the process is to end."""
        # Its module is where gunicorn looks for it.
        ggevent.StreamServer = partial(balance.Server, self.place)
        gevent.spawn(self._let_idle_go)
        super().run()

    def handle_request(self, listener_name: Any, req: Any, sock: Any, addr: Any) -> None:
        """Answer one request."""
        try:
            if isinstance(req, Whole):
                self._answer(listener_name, req, sock, addr)
            else:
                sock.settimeout(STALLED_SECONDS)
                super().handle_request(listener_name, req, sock, addr)
                # The next request's head has a deadline of its own, and gevent a timer for each timeout.
                sock.settimeout(None)
        except TimeoutError:
            _log.info("cut off a client that took nothing for %g s", STALLED_SECONDS)
            raise StopIteration from None
        if not self.alive:
            # The answer began before the drain, so it promised to keep the connection.
            raise StopIteration

    def _let_idle_go(self) -> None:
        """When this process is to end, do not wait for clients that ask nothing."""
        while self.alive:
            gevent.sleep(DRAIN_LOOK)
        request.let_idle_go()

    def _answer(self, server: Any, req: Whole, sock: Any, addr: Any) -> None:
        """What gunicorn does with a request, without what only another request has need of."""
        began = time.perf_counter()
        self.nr += 1
        if self.nr >= self.max_requests and self.alive:
            self.log.info("Autorestarting worker after current request.")
            self.alive = False
        keeps = bool(self.alive and self.cfg.keepalive)
        environ = {
            **req.in_wsgi,
            "wsgi.input": BytesIO(req.body),
            "gunicorn.socket": sock,
            BODY_IS_HERE: True,
            "SERVER_NAME": server[0],
            "SERVER_PORT": str(server[1]),
            "REMOTE_ADDR": addr[0],
            "REMOTE_PORT": str(addr[1]),
        }
        try:
            reply = self.wsgi.fast_path.reply(req.stop, environ)
            try:
                data = response.packed(reply, keeps=keeps)
                response.send_whole(sock, data, STALLED_SECONDS)
            finally:
                seconds = time.perf_counter() - began
                method = environ["REQUEST_METHOD"]
                self.log.answered(method, reply.status_code, seconds, len(reply.body))
                reply.close()
        except (GreenletExit, SystemExit):
            # The drain has lasted too long. Half of an answer may be out, which nothing may follow.
            raise StopIteration from None
        if not keeps:
            raise StopIteration

    def handle_error(self, req: Any, client: Any, addr: Any, exc: BaseException) -> None:
        """Refuse a request that could not be parsed."""
        if not isinstance(exc, ParseException):
            super().handle_error(None if isinstance(req, Whole) else req, client, addr, exc)
            return
        status, detail = 400, "The request is not valid HTTP/1.1."
        if isinstance(exc, LimitRequestLine):
            status, detail = 414, "The URL is too long. Put what is long into the body."
        elif isinstance(exc, LimitRequestHeaders):
            status, detail = 431, "The headers are too many or too long. Send fewer."
        _log.info("refused a request from %s: %s", addr, type(exc).__name__)
        try:
            client.sendall(_response(status, detail))
        except OSError:
            _log.debug("the client had gone")


def _response(status: int, detail: str) -> bytes:
    request_id = f"req_{secrets.token_hex(12)}"
    body = msgspec.json.encode(
        {
            "type": "/problems/bad-request",
            "title": PROBLEMS["bad_request"].title,
            "status": status,
            "detail": detail,
            "code": "bad_request",
            "request_id": request_id,
        }
    )
    head = (
        f"HTTP/1.1 {status} {_REASONS[status]}\r\n"
        "Content-Type: application/problem+json\r\n"
        f"Content-Length: {len(body)}\r\nX-Request-ID: {request_id}\r\nConnection: close\r\n\r\n"
    )
    return head.encode() + body
