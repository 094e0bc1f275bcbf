"""Our way and gunicorn's own: the same request of the same bytes, the first time and every other."""

from collections.abc import Iterator
from typing import Any

import pytest
from gunicorn.config import Config
from gunicorn.http import message
from gunicorn.http.errors import ParseException
from gunicorn.http.parser import RequestParser

from api.server import request as request_module
from api.server.request import LONGEST, MOST, Head, Parser, Whole

CLIENT = ("127.0.0.1", 50000)
POST = b"POST /v1/jobs HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n"


@pytest.fixture(autouse=True)
def heads(monkeypatch: pytest.MonkeyPatch) -> dict[bytes, Head]:
    """The heads that are remembered, none at first."""
    none: dict[bytes, Head] = {}
    monkeypatch.setattr(request_module, "_heads", none)
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
        names = {"cfg", "unreader", "body", "_use_fast", "in_wsgi", "unknown"}
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


def test_behind_a_proxys_line_nothing_is_remembered(heads: dict[bytes, Head]) -> None:
    made = settings()
    made.set("proxy_protocol", "v1")
    line = b"PROXY TCP4 10.0.0.%d 10.0.0.9 1 2\r\n"

    for last in (1, 2):
        request = next(Parser(made, iter([line % last + POST + b"{}"]), CLIENT))
        assert request.proxy_protocol_info["client_addr"] == f"10.0.0.{last}"

    assert heads == {}


def test_so_many_heads_are_remembered_and_none_that_is_long(
    heads: dict[bytes, Head],
) -> None:
    for number in range(MOST + 1):
        next(Parser(settings(), iter([b"GET /%d HTTP/1.1\r\nHost: a\r\n\r\n" % number]), CLIENT))
        assert len(heads) <= MOST
    heads.clear()

    long = b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"x" * LONGEST + b"\r\n\r\n"
    assert next(Parser(settings(), iter([long]), CLIENT)).path == "/"

    assert heads == {}


ROUTE: Any = object()


def found(environ: Any) -> Any:
    """The one route whose answers are whole."""
    return (
        ROUTE if (environ["REQUEST_METHOD"], environ["PATH_INFO"]) == ("POST", "/v1/jobs") else None
    )


def parser(*pieces: bytes) -> Parser:
    return Parser(settings(), iter(pieces), CLIENT, found)


def test_what_came_before_and_is_all_here_is_whole() -> None:
    requests = parser(POST + b"{}", POST + b"[]", POST + b"12")

    first, second, third = next(requests), next(requests), next(requests)

    assert not isinstance(first, Whole)
    assert isinstance(second, Whole) and isinstance(third, Whole)
    assert (second.stop, second.body, third.body) == (ROUTE, b"[]", b"12")
    assert second.in_wsgi == first.in_wsgi
    with pytest.raises(StopIteration):
        next(requests)


def test_whole_requests_and_others_take_turns_on_a_connection() -> None:
    get = b"GET /v1/jobs HTTP/1.1\r\nHost: a\r\n\r\n"
    chunked = b"POST /v1/jobs HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n"
    together = [POST + b"{}", get, POST + b"[]", chunked, chunked, POST + b"12", get, POST + b"34"]

    for pieces in (together, [b"".join(together)]):
        read = []
        for request in parser(*pieces):
            body = request.body if isinstance(request, Whole) else request.body.read()
            read.append((isinstance(request, Whole), body))
        assert [body for _, body in read] == [b"{}", b"", b"[]", b"{}", b"{}", b"12", b"", b"34"]
        assert [whole for whole, _ in read][2:] == [True, False, False, True, False, True]


@pytest.mark.parametrize("cut", range(1, len(POST) + 2))
def test_what_comes_in_pieces_is_read_by_gunicorn(cut: int) -> None:
    whole = POST + b"{}"
    requests = parser(whole, whole[:cut], whole[cut:], whole)
    next(requests)

    pieced = next(requests)

    assert not isinstance(pieced, Whole)
    assert (pieced.path, pieced.body.read()) == ("/v1/jobs", b"{}")
    assert isinstance(next(requests), Whole)


@pytest.mark.parametrize(
    "data",
    [
        b"POST /v1/jobs HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\n{}",
        b"POST /v1/jobs HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n{}",
        b"POST /v1/jobs HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
        b"POST /v1/infer HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n{}",
        b"HEAD /v1/jobs HTTP/1.1\r\nHost: a\r\n\r\n",
    ],
)
def test_what_is_out_of_the_ordinary_is_gunicorns_each_time(data: bytes) -> None:
    requests = parser(data, data, data)

    assert [isinstance(next(requests), Whole) for _ in range(3)] == [False] * 3


def test_the_last_request_of_a_connection_is_gunicorns() -> None:
    last = b"POST /v1/jobs HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{}"

    for _ in range(3):
        requests = parser(last + POST + b"{}")
        assert not isinstance(next(requests), Whole)
        with pytest.raises(StopIteration):
            next(requests)


def test_behind_a_whole_request_the_next_one_is_refused_by_itself() -> None:
    requests = parser(POST + b"{}", POST + b"{}" + b"GET / HTTP/9.9\r\n\r\n")
    next(requests)

    assert isinstance(next(requests), Whole)
    with pytest.raises(ParseException):
        next(requests)


def test_of_a_peer_without_an_address_nothing_is_whole() -> None:
    requests = Parser(settings(), iter([POST + b"{}"] * 3), "", found)

    assert [isinstance(next(requests), Whole) for _ in range(3)] == [False] * 3


def test_a_body_that_breaks_off_is_not_whole() -> None:
    requests = parser(POST + b"{}", POST + b"{")
    next(requests)

    short = next(requests)

    assert not isinstance(short, Whole)
    assert short.body.read() == b"{"
