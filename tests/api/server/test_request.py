"""What is read in one look comes out as gunicorn reads it; all else is read by gunicorn."""

import itertools
from typing import Any

import pytest
from gunicorn.config import Config
from gunicorn.http import parser

from api.server.request import Body, RequestParser

CLIENT = ("127.0.0.1", 5000)
BODY = b'{"model":"echo"}'
USUAL = (
    b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n",
    b"POST /v1/infer HTTP/1.1\r\nHost: a:8000\r\nContent-Length: 16\r\nX-Odd:\t\xe9 \r\n\r\n"
    + BODY,
    b"POST /v1/infer?timeout=3&x=%20?y HTTP/1.1\r\nhost: a\r\nContent-Length: 00\r\nX-Empty:\r\n\r\n",
    b"POST /v1/jobs? HTTP/1.1\r\nHost: a\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\nGET / HTTP/1.1\r\nHost: b\r\n\r\n",
    b"CONNECT /x HTTP/1.1\r\nHost: a\r\n\r\n",
)
LINES = (
    *("POST /v1/jobs HTTP/1.1", "GET /a?b#c HTTP/1.1", "GET //a HTTP/1.1", "GET /%41 HTTP/1.1"),
    *("POST /v1/jobs HTTP/1.0", "get / HTTP/1.1", "GET  / HTTP/1.1", "GET / HTTP/2.0", "G /"),
    *("GET http://a/b HTTP/1.1", "OPTIONS * HTTP/1.1", "GET /\xe9 HTTP/1.1", "GET / HTTP/1.1 "),
)
FIELDS = (
    *(
        "Host: a",
        "Host: b",
        "Content-Type: a",
        "content-type: b",
        "Expect: 100-continue",
        "Expect: x",
    ),
    *("Content-Length: 16", "Content-Length: 3", "Content-Length: -1", "Content-Length: +3"),
    *("Content-Length: \xb2", "Content-Length: 1_0", "Content-Length:", "Content-Length: 3, 3"),
    *(
        "Transfer-Encoding: chunked",
        "Transfer-Encoding: gzip",
        "Connection: close",
        "X-A: a",
        "X-A: b",
    ),
    *(
        "X_A: a",
        "Bad Name: a",
        "X-A : a",
        " folded",
        ": nameless",
        "nothing",
        "X-A: a\x00",
        "X-A: a\nX: b",
    ),
    *(
        "X-Forwarded-Proto: https",
        "X-Forwarded-Proto: http",
        "X-Tab:\t a \t",
        "X-Long: " + "a" * 200,
    ),
)


def limited(**given: Any) -> Config:
    cfg = Config()
    cfg.set("http_parser", "python")
    for name, value in given.items():
        cfg.set(name, value)
    return cfg


PLAIN = limited(secure_scheme_headers={}, forwarder_headers="", forwarded_allow_ips="*")
CONFIGURED = (
    limited(),
    limited(limit_request_line=21),
    limited(limit_request_fields=1),
    limited(limit_request_field_size=21),
    PLAIN,
    limited(header_map="dangerous", strip_header_spaces=True, permit_obsolete_folding=True),
    limited(casefold_http_method=True, permit_unconventional_http_method=True),
)


def read(kind: Any, cfg: Config, pieces: list[bytes]) -> list[Any]:
    """All requests of a connection as `kind` reads them, each with its body, and how it ends."""
    requests, found = kind(cfg, iter(pieces), CLIENT), []
    try:
        for one in requests:
            target = (
                one.method,
                one.uri,
                one.path,
                one.query,
                one.fragment,
                one.version,
                one.scheme,
            )
            head = (one.headers, one.must_close, one._expected_100_continue, one.should_close())
            found.append((*target, *head))
            found.append(one.body.read(16))
    except Exception as error:  # noqa: BLE001 - which one it is is compared
        found.append((type(error), str(error)))
    return found


@pytest.mark.parametrize("data", USUAL)
def test_a_usual_head_is_read_in_one_look_and_comes_out_as_gunicorns(data: bytes) -> None:
    cfg = PLAIN
    assert next(RequestParser(cfg, iter([data]), CLIENT)).fields is not None
    assert read(RequestParser, cfg, [data]) == read(parser.RequestParser, cfg, [data])


def alike(cfg: Config, data: bytes, cut: int = 0) -> None:
    pieces = [piece for piece in (data[:cut], data[cut:]) if piece]
    assert read(RequestParser, cfg, pieces) == read(parser.RequestParser, cfg, pieces), data


@pytest.mark.parametrize("cfg", CONFIGURED)
@pytest.mark.parametrize("line", LINES)
def test_any_line_is_read_or_refused_as_gunicorn_does(cfg: Config, line: str) -> None:
    head = f"{line}\r\nHost: a\r\nContent-Length: 16\r\n\r\n"
    alike(cfg, head.encode("latin-1") + BODY)


@pytest.mark.parametrize("cfg", CONFIGURED)
def test_any_two_headers_are_read_or_refused_as_gunicorn_does(cfg: Config) -> None:
    for first, second in itertools.product(FIELDS, FIELDS):
        head = f"POST /v1/jobs HTTP/1.1\r\n{first}\r\n{second}\r\n\r\n"
        alike(cfg, head.encode("latin-1") + BODY)


def test_lines_end_as_gunicorn_wants_them_to_wherever_a_stream_is_cut() -> None:
    lines = ("POST / HTTP/1.1", "Host: a", "Content-Length: 16", "")
    for wrong, end in itertools.product(range(len(lines) + 1), ("\n", "\r", "", "\r\n\r\n")):
        ended = [line + (end if at == wrong else "\r\n") for at, line in enumerate(lines)]
        data = "".join(ended).encode() + BODY
        for cut in range(len(data)):
            alike(PLAIN, data + data, cut)


@pytest.mark.parametrize(
    "sizes", [(3000,), (3001,), (2, 2998), (3, 1976), (3000, 1), (None,), (0, 5, None), (5,)]
)
def test_a_body_is_read_as_it_is_asked_for_and_what_is_left_is_passed_over(
    sizes: tuple[int | None, ...],
) -> None:
    data = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3000\r\n\r\n" + bytes(range(250)) * 12
    found = []
    for kind in (RequestParser, parser.RequestParser):
        requests = kind(PLAIN, iter([data[:60], data[60:], data]), CLIENT)
        first = next(requests)
        found.append([first.body.read(size) for size in sizes] + [next(requests).body.read()])

    assert found[0] == found[1]


def test_a_body_is_as_quickly_read_behind_a_head_that_gunicorn_reads() -> None:
    data = b"POST / HTTP/1.1\r\nX: a\r\nX: b\r\nContent-Length: 16\r\n\r\n" + BODY
    requests = RequestParser(PLAIN, iter([data, data]), CLIENT)
    first = next(requests)

    assert (first.fields, type(first.body)) == (None, Body)
    assert first.body.read(16) == next(requests).body.read() == BODY


def test_a_body_that_broke_off_lets_no_request_follow() -> None:
    def broken() -> Any:
        yield b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 16\r\n\r\n{"
        raise ConnectionResetError

    requests = RequestParser(PLAIN, broken(), CLIENT)
    with pytest.raises(ConnectionResetError):
        next(requests).body.read(16)
    with pytest.raises(StopIteration):
        next(requests)
