"""Our way and gunicorn's own: the same environment of the same request, the same bytes of the same answer."""

from collections.abc import Iterator
from typing import Any

import pytest
from gunicorn import util
from gunicorn.config import Config
from gunicorn.http import wsgi
from gunicorn.http.errors import InvalidResponseHeader, InvalidResponseHeaderName

from api.http.reply import Reply
from api.http.sse.connection import BODY_IS_HERE, PUSH
from api.server import response as gunicorn_response
from api.server.request import Parser

CLIENT, SERVER = ("127.0.0.1", 50000), ("127.0.0.1", 8080)
GET = b"GET /v1/jobs?limit=2 HTTP/1.1\r\nHost: a.example\r\n"
JSON = [("Content-Type", "application/json"), ("Content-Length", "2")]


class Socket:
    """Takes `at_once` bytes in one `send`, as a full buffer would; with 0 it is full, or broken for good."""

    def __init__(self, at_once: int = 10**6) -> None:
        self.sent = b""
        self.calls = 0
        self._at_once = at_once

    def send(self, data: bytes, flags: int = 0, timeout: float = 60.0) -> int:
        assert flags == 0
        self.calls += 1
        if self._at_once == 0:
            assert timeout == 0.0
            raise BlockingIOError
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
    request = next(Parser(cfg, iter([data]), CLIENT))
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
    others = {"wsgi.errors", "wsgi.early_hints", PUSH, BODY_IS_HERE}

    _, ours = gunicorn_response.create(request, Socket(), CLIENT, SERVER, cfg)
    _, theirs = gunicorn_response._create(request, Socket(), CLIENT, SERVER, cfg)

    ours.pop("gunicorn.socket"), theirs.pop("gunicorn.socket")
    assert {k: v for k, v in ours.items() if k not in others} == {
        k: v for k, v in theirs.items() if k not in others
    }


def test_requests_with_the_same_head_have_environments_of_their_own(cfg: Config) -> None:
    requests = Parser(cfg, iter([GET + b"\r\n"] * 2), CLIENT)
    made = []
    for port in (1, 2):
        request = next(requests)
        request.proxy_protocol_info = {}
        _, environ = gunicorn_response.create(request, Socket(), ("10.0.0.1", port), SERVER, cfg)
        made.append(environ)
        environ["truthgpt.mine"] = port
        environ["PATH_INFO"] = "/else"

    assert [environ["REMOTE_PORT"] for environ in made] == ["1", "2"]
    fresh = parsed(cfg, GET + b"\r\n")
    _, environ = gunicorn_response.create(fresh, Socket(), CLIENT, SERVER, cfg)
    assert environ["PATH_INFO"] == "/v1/jobs" and "truthgpt.mine" not in environ
    assert environ["wsgi.input"] is fresh.body is not made[0]["wsgi.input"]


@pytest.mark.parametrize(
    ("framing", "body", "here"),
    [
        (b"", b"", True),
        (b"Content-Length: 2\r\n", b"{}", True),
        (b"Content-Length: 2\r\n", b"{}GET /next HTTP/1.1", True),
        (b"Content-Length: 3\r\n", b"{}", False),
        (b"Transfer-Encoding: chunked\r\n", b"2\r\n{}\r\n0\r\n\r\n", False),
    ],
)
def test_it_says_whether_the_body_came_with_the_head(
    cfg: Config, framing: bytes, body: bytes, here: bool
) -> None:
    request = parsed(cfg, b"POST /v1/jobs HTTP/1.1\r\nHost: a\r\n" + framing + b"\r\n" + body)

    _, environ = gunicorn_response.create(request, Socket(), CLIENT, SERVER, cfg)

    assert environ.get(BODY_IS_HERE, False) is here
    if here:
        assert environ["wsgi.input"].read() == body[:2]


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


@pytest.mark.parametrize("keeps", [True, False])
@pytest.mark.parametrize("status", [200, 202, 404, 429, 503])
def test_a_whole_answer_is_the_bytes_that_gunicorn_sends(
    cfg: Config, status: int, keeps: bool
) -> None:
    reply = Reply(b"{}", status, "application/json")
    reply.headers["Location"] = "http://a.example:8080/v1/jobs/job_1?x=%20"
    reply.headers["RateLimit"] = '"submit";r=1;t=60'
    [theirs] = gunicorn_response.Response.__bases__
    sock = Socket()
    response = theirs(parsed(cfg, b"POST / HTTP/1.1\r\nHost: a\r\n\r\n"), sock, cfg)
    if not keeps:
        response.force_close()
    response.start_response(reply.status, list(reply.headers.items()))
    response.write(reply.body)
    response.close()

    assert gunicorn_response.packed(reply, keeps=keeps) == sock.sent


@pytest.mark.parametrize("value", ["a\r\nSet-Cookie: b", "a\nb", "a\x00", "a\x7f", "\u0100"])
def test_a_whole_answers_header_cannot_bring_others_along(value: str) -> None:
    reply = Reply(b"{}", 200, "application/json")
    reply.headers["X-A"] = value

    with pytest.raises(InvalidResponseHeader):
        gunicorn_response.packed(reply, keeps=True)


class Slow(Socket):
    """A socket whose timeout is kept."""

    timeouts: list[float | None]

    def settimeout(self, seconds: float | None) -> None:
        self.timeouts.append(seconds)


@pytest.mark.parametrize("at_once", [0, 10, 100])
def test_a_whole_answer_is_sent_at_once_or_within_its_time(at_once: int) -> None:
    sock = Slow(at_once=at_once)
    sock.timeouts = []

    gunicorn_response.send_whole(sock, bytes(range(100)), 7.0)

    assert sock.sent == bytes(range(100))
    assert sock.timeouts == ([] if at_once == 100 else [7.0, None])


EVENTS = [("Content-Type", "text/event-stream")]


def streaming(cfg: Config, sock: Socket, request: bytes = GET) -> Any:
    """A response whose first part is out."""
    response = gunicorn_response.Response(parsed(cfg, request + b"\r\n"), sock, cfg)
    response.start_response("200 OK", EVENTS)
    response.write(b"first")
    sock.sent = b""
    return response


@pytest.mark.parametrize("at_once", [1, 7, 1000])
def test_what_is_pushed_leaves_between_what_is_written(cfg: Config, at_once: int) -> None:
    sock = Socket()
    response = streaming(cfg, sock)
    sock._at_once = at_once

    assert response.push(b"second")
    sock._at_once = 1000
    response.write(b"third")
    assert response.push(b"last")
    response.close()

    assert sock.sent == b"6\r\nsecond\r\n5\r\nthird\r\n4\r\nlast\r\n0\r\n\r\n"
    assert response.sent == len(b"firstsecondthirdlast")


def test_behind_a_rest_nothing_is_pushed(cfg: Config) -> None:
    sock = Socket()
    response = streaming(cfg, sock)
    sock._at_once = 3

    assert response.push(b"second")
    assert not response.push(b"third")
    response.close()

    assert sock.sent == b"6\r\nsecond\r\n0\r\n\r\n"


def test_a_rest_that_cannot_be_sent_is_the_next_writes_fault(cfg: Config) -> None:
    sock = Socket()
    response = streaming(cfg, sock)
    sock._at_once = 3

    def broken(_: bytes) -> None:
        raise BrokenPipeError

    assert response.push(b"second")
    sock.sendall = broken  # type: ignore[method-assign]

    with pytest.raises(BrokenPipeError):
        response.write(b"third")


def test_a_full_socket_takes_nothing(cfg: Config) -> None:
    sock = Socket()
    response = streaming(cfg, sock)
    sock._at_once = 0

    assert not response.push(b"second")
    assert sock.sent == b""


def test_what_is_not_chunked_or_not_begun_or_large_is_not_pushed(cfg: Config) -> None:
    old = streaming(cfg, Socket(), b"GET / HTTP/1.0\r\n")
    new = gunicorn_response.Response(parsed(cfg, GET + b"\r\n"), Socket(), cfg)
    new.start_response("200 OK", EVENTS)
    large = streaming(cfg, Socket())

    assert not old.push(b"second")
    assert not new.push(b"first")
    assert not large.push(bytes(gunicorn_response.PUSHED + 1))
