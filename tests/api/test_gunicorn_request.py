"""Our way and gunicorn's own: the same request of the same bytes, the first time and every other."""

from collections.abc import Iterator
from typing import Any

import pytest
from gunicorn.config import Config
from gunicorn.http import message
from gunicorn.http.errors import ParseException
from gunicorn.http.parser import RequestParser

from api import gunicorn_request
from api.gunicorn_request import LONGEST, MOST, Parser

CLIENT = ("127.0.0.1", 50000)
POST = b"POST /v1/jobs HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n"


@pytest.fixture(autouse=True)
def heads(monkeypatch: pytest.MonkeyPatch) -> dict[bytes, dict[str, Any]]:
    """The heads that are remembered, none at first."""
    none: dict[bytes, dict[str, Any]] = {}
    monkeypatch.setattr(gunicorn_request, "_heads", none)
    return none


def settings() -> Config:
    """A server's settings, by which nobody is trusted more than others."""
    made = Config()
    for name in ("forwarded_allow_ips", "forwarder_headers"):
        made.set(name, "")
    return made


def said(requests: Iterator[Any], count: int) -> list[dict[str, Any]]:
    """What each of so many requests says, its body among it."""
    found = []
    for _ in range(count):
        request = next(requests)
        names = {"cfg", "unreader", "body", "_use_fast", "in_wsgi"}
        found.append(
            {name: value for name, value in vars(request).items() if name not in names}
            | {"body": request.body.read(), "close": request.should_close()}
        )
    return found


@pytest.mark.parametrize(
    "data",
    [
        POST + b"{}",
        b"GET /v1/jobs?limit=2#x HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: b\r\nX-Forwarded-For: c\r\n\r\n",
        b"GET /caf%C3%A9 HTTP/1.1\r\n\r\n",
        b"\r\nGET / HTTP/1.1\r\nHost: a\r\nConnection: keep-alive\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n{ }",
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
        b"GET http://b/ HTTP/1.1\r\nHost: a\r\nX-Forwarded-Proto: https\r\n\r\n",
    ],
)
@pytest.mark.parametrize("cut", [None, 1, 20])
def test_a_request_says_what_gunicorn_reads(data: bytes, cut: int | None) -> None:
    pieces = [data] * 3 if cut is None else [data[:cut], data[cut:]] * 3

    theirs = said(RequestParser(settings(), iter(pieces), CLIENT), 3)

    assert said(Parser(settings(), iter(pieces), CLIENT), 3) == theirs
    assert said(Parser(settings(), iter([data * 3]), CLIENT), 3) == theirs


def test_a_head_that_came_before_is_not_parsed_again(monkeypatch: pytest.MonkeyPatch) -> None:
    requests = Parser(settings(), iter([POST + b"{}", POST + b"[]"]), CLIENT)
    first = next(requests)
    monkeypatch.delattr(message.Request, "parse_request_line")

    second = next(requests)

    assert (first.headers, first.path) == (second.headers, second.path)
    assert second.body.read() == b"[]"


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/9.9\r\n\r\n",
        b"\r\n\r\nGET / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nBad Header: x\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
    ],
)
def test_what_is_refused_is_refused_each_time(data: bytes) -> None:
    for _ in range(3):
        with pytest.raises(ParseException):
            next(Parser(settings(), iter([data]), CLIENT))


def test_a_body_that_nobody_read_is_not_the_next_request() -> None:
    smuggled = b"GET /admin HTTP/1.1\r\n\r\n"
    head = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % len(smuggled)
    requests = Parser(settings(), iter([head + smuggled, POST + b"{}"]), CLIENT)

    assert [next(requests).path, next(requests).path] == ["/", "/v1/jobs"]


def test_behind_a_proxys_line_nothing_is_remembered(heads: dict[bytes, dict[str, Any]]) -> None:
    made = settings()
    made.set("proxy_protocol", "v1")
    line = b"PROXY TCP4 10.0.0.%d 10.0.0.9 1 2\r\n"

    for last in (1, 2):
        request = next(Parser(made, iter([line % last + POST + b"{}"]), CLIENT))
        assert request.proxy_protocol_info["client_addr"] == f"10.0.0.{last}"

    assert heads == {}


def test_so_many_heads_are_remembered_and_none_that_is_long(
    heads: dict[bytes, dict[str, Any]],
) -> None:
    for number in range(MOST + 1):
        next(Parser(settings(), iter([b"GET /%d HTTP/1.1\r\nHost: a\r\n\r\n" % number]), CLIENT))
        assert len(heads) <= MOST
    heads.clear()

    long = b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"x" * LONGEST + b"\r\n\r\n"
    assert next(Parser(settings(), iter([long]), CLIENT)).path == "/"

    assert heads == {}
