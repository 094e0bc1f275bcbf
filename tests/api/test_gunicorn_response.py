"""Our way and gunicorn's own: the same environment of the same request, the same bytes of the same answer."""

from collections.abc import Iterator
from typing import Any

import pytest
from gunicorn import util
from gunicorn.config import Config
from gunicorn.http import wsgi
from gunicorn.http.errors import InvalidResponseHeader, InvalidResponseHeaderName
from gunicorn.http.parser import RequestParser

from api import gunicorn_response

CLIENT, SERVER = ("127.0.0.1", 50000), ("127.0.0.1", 8080)
GET = b"GET /v1/jobs?limit=2 HTTP/1.1\r\nHost: a.example\r\n"
JSON = [("Content-Type", "application/json"), ("Content-Length", "2")]


class Socket:
    """Takes `at_once` bytes in one `send`, as a full buffer would."""

    def __init__(self, at_once: int = 10**6) -> None:
        self.sent = b""
        self.calls = 0
        self._at_once = at_once

    def send(self, data: bytes) -> int:
        self.calls += 1
        self.sent += bytes(data[: self._at_once])
        return min(len(data), self._at_once)

    def sendall(self, data: bytes) -> None:
        self.calls += 1
        self.sent += bytes(data)


@pytest.fixture
def cfg(monkeypatch: pytest.MonkeyPatch) -> Iterator[Config]:
    """A server's settings; what `install` changes is as gunicorn has it again afterwards."""
    for module, name in ((wsgi, "create"), (wsgi, "Response"), (util, "http_date")):
        monkeypatch.setattr(module, name, getattr(module, name))
    gunicorn_response.install()
    settings = Config()
    for name in ("forwarded_allow_ips", "forwarder_headers"):
        settings.set(name, "")
    return settings


def parsed(cfg: Config, data: bytes) -> Any:
    request = next(RequestParser(cfg, iter([data]), CLIENT))
    request.proxy_protocol_info = {}
    return request


@pytest.mark.parametrize(
    "head",
    [
        GET,
        GET + b"X-Forwarded-For: 1.1.1.1\r\nX-Forwarded-For: 2.2.2.2\r\n",
        GET + b"X_Odd: dropped\r\nScript-Name: /else\r\nAccept: a\r\nACCEPT: b\r\n",
        b"POST /v1/jobs HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: 2\r\n",
        b"POST /v1/%6Aobs%2F HTTP/1.0\r\nHost: b:1\r\n",
        b"GET /caf%C3%A9 HTTP/1.1\r\nCookie: a=b\r\n",
    ],
)
def test_the_environment_is_gunicorns(cfg: Config, head: bytes) -> None:
    request = parsed(cfg, head + b"\r\n{}")
    others = {"wsgi.errors", "wsgi.early_hints"}

    _, ours = gunicorn_response.create(request, Socket(), CLIENT, SERVER, cfg)
    _, theirs = gunicorn_response._create(request, Socket(), CLIENT, SERVER, cfg)

    ours.pop("gunicorn.socket"), theirs.pop("gunicorn.socket")
    assert {k: v for k, v in ours.items() if k not in others} == {
        k: v for k, v in theirs.items() if k not in others
    }


def answered(
    kind: type, cfg: Config, method: bytes, status: str, headers: Any, *body: bytes
) -> Socket:
    sock = Socket()
    request = parsed(cfg, method + b" / HTTP/1.1\r\nHost: a\r\n\r\n")
    response = kind(request, sock, cfg)
    response.start_response(status, headers)
    for part in body:
        response.write(part)
    response.close()
    return sock


@pytest.mark.parametrize("method", [b"GET", b"HEAD", b"POST"])
@pytest.mark.parametrize(
    ("status", "headers", "body"),
    [
        ("200 OK", JSON, [b"{}"]),
        ("200 OK", [*JSON, ("Location", "http://a/ü")], [b"{}"]),
        ("200 OK", JSON, [b"{", b"}"]),
        ("200 OK", JSON, [b"{}too much"]),
        ("200 OK", JSON, []),
        ("200 OK", [("Content-Type", "text/event-stream")], [b"data: 1\n\n", b"data: 2\n\n"]),
        ("200 OK", [*JSON, ("Connection", "close")], [b"{}"]),
        ("204 NO CONTENT", [("X-Request-ID", "r")], []),
        ("304 NOT MODIFIED", JSON, []),
        ("404 NOT FOUND", [("Content-Length", "0")], [b""]),
    ],
)
def test_the_bytes_are_gunicorns(
    cfg: Config, method: bytes, status: str, headers: Any, body: list[bytes]
) -> None:
    [theirs] = gunicorn_response.Response.__bases__

    sent = answered(gunicorn_response.Response, cfg, method, status, headers, *body)

    assert sent.sent == answered(theirs, cfg, method, status, headers, *body).sent


def test_head_and_body_leave_together(cfg: Config) -> None:
    assert answered(gunicorn_response.Response, cfg, b"GET", "200 OK", JSON, b"{}").calls == 1


@pytest.mark.parametrize(
    ("header", "refused"),
    [
        (("X-A", "a\r\nSet-Cookie: b"), InvalidResponseHeader),
        (("X-A", "a\nb"), InvalidResponseHeader),
        (("X-A", "a\x00"), InvalidResponseHeader),
        (("X A", "a"), InvalidResponseHeaderName),
        (("X-A: b\r\nX-B", "a"), InvalidResponseHeaderName),
    ],
)
def test_a_header_cannot_bring_others_along(
    cfg: Config, header: tuple[str, str], refused: type[Exception]
) -> None:
    with pytest.raises(refused):
        answered(gunicorn_response.Response, cfg, b"GET", "200 OK", [*JSON, header], b"{}")


def test_what_a_full_buffer_does_not_take_is_sent_after_it() -> None:
    sock = Socket(at_once=10)

    gunicorn_response._send(sock, bytes(range(100)))

    assert sock.sent == bytes(range(100))
    assert sock.calls == 2
