"""The head of an answer leaves with the first part of its body, and is gunicorn's but for its first lines."""

from typing import Any

import pytest
from gunicorn.config import Config
from gunicorn.http.errors import InvalidResponseHeader
from gunicorn.http.parser import RequestParser

from api.server.connection import Connection
from api.server.response import Response

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"


class Sock:
    """A socket that notes each call of `send` or `sendall`."""

    def __init__(self) -> None:
        self.calls: list[bytes] = []
        self.settimeout = self.gettimeout = None

    def send(self, data: bytes, flags: int = 0, timeout: float | None = None) -> int:
        self.calls.append(bytes(data))
        return len(data)

    def sendall(self, data: bytes) -> None:
        self.calls.append(bytes(data))


def answered(
    parts: list[bytes], headers: list[tuple[str, str]], request: bytes = GET, status: str = "200 OK"
) -> list[bytes]:
    """What is sent, a call of the socket each."""
    cfg, sock = Config(), Sock()
    parsed: Any = next(RequestParser(cfg, iter([request]), ("127.0.0.1", 1)))
    response = Response(parsed, Connection(sock), cfg)
    response.start_response(status, headers)
    for part in parts:
        response.write(part)
    response.close()
    return sock.calls


def test_head_and_body_leave_in_one_call() -> None:
    [sent] = answered([b"hello"], [("Content-Length", "5"), ("X-A", "b")])

    head, _, body = sent.partition(b"\r\n\r\n")
    lines = head.split(b"\r\n")
    assert lines[0] == b"HTTP/1.1 200 OK" and body == b"hello"
    assert (
        b"Connection: keep-alive" in lines and b"X-A: b" in lines and b"Server: truthgpt" in lines
    )
    assert sum(line.startswith(b"Date: ") for line in lines) == 1


def test_a_stream_is_chunked_and_each_part_leaves_when_it_is_there() -> None:
    first, second, end = answered([b"one", b"two"], [("Content-Type", "text/event-stream")])

    assert first.endswith(b"\r\n\r\n3\r\none\r\n") and b"Transfer-Encoding: chunked" in first
    assert (second, end) == (b"3\r\ntwo\r\n", b"0\r\n\r\n")


@pytest.mark.parametrize(
    ("status", "request_"), [("204 No Content", GET), ("200 OK", GET.replace(b"GET", b"HEAD"))]
)
def test_an_answer_without_a_body_is_its_head(status: str, request_: bytes) -> None:
    [sent] = answered([], [], request_, status)
    assert sent.endswith(b"\r\n\r\n")


def test_who_asks_for_the_end_of_the_connection_is_promised_it() -> None:
    [sent] = answered(
        [b"x"], [("Content-Length", "1")], GET.replace(b"Host", b"Connection: close\r\nHost")
    )
    assert b"Connection: close\r\n" in sent


@pytest.mark.parametrize(
    "header",
    [
        ("X-A", "b\r\nX-Evil: c"),
        ("X-A", "b\r\n\r\n<html>"),
        ("X-A", "b\nX-Evil: c"),
        ("X-A", "b\rc"),
        ("X-A", "b\x00"),
        ("X-A", "b\u0100"),
        ("X A", "b"),
        ("", "b"),
        ("X-A: b\r\nX-Evil", "c"),
    ],
)
def test_a_header_cannot_bring_others_along(header: tuple[str, str]) -> None:
    with pytest.raises(InvalidResponseHeader):
        answered([b""], [("X-First", "a"), header])
