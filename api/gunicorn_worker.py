"""gunicorn's gevent worker, whose answers to what is not even HTTP are problem documents too."""

import logging
import secrets
from functools import partial
from typing import Any

import msgspec
from gunicorn.http import wsgi
from gunicorn.http.errors import LimitRequestHeaders, LimitRequestLine, ParseException
from gunicorn.workers import ggevent

from api import gunicorn_balance, gunicorn_request, gunicorn_response
from shared.errors import PROBLEMS

_REASONS = {400: "Bad Request", 414: "URI Too Long", 431: "Request Header Fields Too Large"}
STALLED_SECONDS = 60.0
"""A client that takes nothing of its answer, or sends nothing of its request, for so long is cut off."""
board = gunicorn_balance.Board()
_log = logging.getLogger(__name__)
# What serves is nobody's business: it tells which holes to try.
wsgi.SERVER = "truthgpt"
gunicorn_request.install()
gunicorn_response.install()


class Worker(ggevent.GeventWorker):  # type: ignore[misc]
    """Requests that never reach the app are refused here; a drain closes connections as they fall idle."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.place = board.place()

    def run(self) -> None:
        """Serve until the process is to end."""
        # Its module is where gunicorn looks for it.
        ggevent.StreamServer = partial(gunicorn_balance.Server, self.place)
        super().run()

    def handle_request(self, listener_name: Any, req: Any, sock: Any, addr: Any) -> None:
        """Answer one request."""
        sock.settimeout(STALLED_SECONDS)
        try:
            super().handle_request(listener_name, req, sock, addr)
        except TimeoutError:
            _log.info("cut off a client that took nothing for %g s", STALLED_SECONDS)
            raise StopIteration from None
        # The next request's head has a deadline of its own (`keepalive`), and gevent a timer for each.
        sock.settimeout(None)
        if not self.alive:
            # The answer began before the drain, so it promised to keep the connection.
            raise StopIteration

    def handle_error(self, req: Any, client: Any, addr: Any, exc: BaseException) -> None:
        """Refuse a request that could not be parsed."""
        if not isinstance(exc, ParseException):
            super().handle_error(req, client, addr, exc)
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
