"""gunicorn's gevent worker, with deadlines for connections and problem documents for what is not HTTP.

gunicorn runs as it is released: this class is named in its configuration and overrides methods of its
worker. Two greenlets could not agree on a deadline more cheaply than one that looks at all connections
twice a second, so no request starts a timer.
"""

import errno
import logging
import secrets
import ssl
import time
from datetime import timedelta
from typing import Any

import gevent
import msgspec
from gunicorn.http.errors import (
    LimitRequestHeaders,
    LimitRequestLine,
    NoMoreData,
    ParseException,
)
from gunicorn.util import close
from gunicorn.workers import ggevent

from api.server import environ as environs
from api.server.connection import STALLED_SECONDS, Connection
from api.server.plain_config import PlainConfig
from api.server.request import RequestParser
from api.server.response import Response
from shared.domain.errors import PROBLEMS

LOOK_SECONDS = 0.5
"""Between two looks at all connections."""
_GONE = (errno.EPIPE, errno.ECONNRESET, errno.ENOTCONN)
_REASONS = {400: "Bad Request", 414: "URI Too Long", 431: "Request Header Fields Too Large"}
_log = logging.getLogger(__name__)


class Worker(ggevent.GeventWorker):  # type: ignore[misc]
    """Requests that never reach the app are refused here; a drain closes connections as they fall idle."""

    alive: bool
    cfg: Any

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.cfg = PlainConfig(self.cfg)
        self._connections: dict[Any, Connection] = {}

    def run(self) -> None:
        """Serve until the process is to end."""
        gevent.spawn(self._look_after)
        super().run()

    def handle(self, listener: Any, client: Any, addr: Any) -> None:
        """Serve the requests of one connection, until it closes or idles too long."""
        client.setblocking(1)
        connection = Connection(client)
        here = gevent.getcurrent()
        self._connections[here] = connection
        try:
            self._serve(listener.getsockname(), connection, addr)
        finally:
            del self._connections[here]
            connection.common = None  # It names the connection in its turn.

    def _serve(self, listener_name: Any, connection: Connection, addr: Any) -> None:
        """What gunicorn's own loop does over HTTP/1, which its configuration holds it to."""
        request, requests = None, RequestParser(self.cfg, connection, addr)
        try:
            while True:
                request = None
                with connection:
                    request = next(requests)
                self.handle_request(listener_name, request, connection, addr)
        except (StopIteration, NoMoreData):
            pass
        except OSError as error:
            if error.errno not in _GONE and not isinstance(error, ssl.SSLError):
                self.log.exception("Socket error processing request.")
        except Exception as error:  # noqa: BLE001 - whatever it is, it has an answer
            self.handle_error(request, connection, addr, error)
        finally:
            close(connection)

    def handle_request(self, listener_name: Any, req: Any, sock: Any, addr: Any) -> None:
        """Answer one request. Raises `StopIteration` where nothing may follow on its connection."""
        try:
            self._answer(listener_name, req, sock, addr)
        except TimeoutError:
            _log.info("cut off a client that took nothing for %g s", STALLED_SECONDS)
            raise StopIteration from None
        except (gevent.GreenletExit, SystemExit):
            # The drain has lasted too long. Half of an answer may be out, which nothing may follow.
            raise StopIteration from None
        if not self.alive:
            # The answer began before the drain, so it promised to keep the connection.
            raise StopIteration

    def _answer(self, listener_name: Any, req: Any, sock: Any, addr: Any) -> None:
        began = time.perf_counter()
        if sock.common is None:
            several = self.cfg.workers > 1
            sock.common = environs.of_connection(sock, addr, listener_name, multiprocess=several)
        response, environ = Response(req, sock, self.cfg), environs.of_request(sock.common, req)
        if req._expected_100_continue:
            sock.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        self.nr += 1
        if self.nr >= self.max_requests and self.alive:
            self.log.info("Autorestarting worker after current request.")
            self.alive = False
        if not self.alive:
            response.force_close()
        try:
            parts = self.wsgi(environ, response.start_response)
            try:
                for part in parts:
                    response.write(part)
                response.close()
            finally:
                took = timedelta(seconds=time.perf_counter() - began)
                self.log.access(response, req, environ, took)
                if hasattr(parts, "close"):
                    parts.close()
        except OSError:
            raise
        except Exception:
            if not response.headers_sent:
                raise
            self.log.exception("Error handling request")
            raise StopIteration from None
        if response.closes:
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

    def _look_after(self) -> None:
        """End connections that are overdue; when this process is to end, those that ask nothing."""
        while True:
            gevent.sleep(LOOK_SECONDS)
            now, keepalive = time.monotonic(), self.cfg.keepalive
            for connection in tuple(self._connections.values()):
                if connection.overdue(now, keepalive) or (not self.alive and connection.idle):
                    connection.end_input()


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
