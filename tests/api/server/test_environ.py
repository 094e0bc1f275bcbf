"""What our environments hold is what gunicorn's hold."""

from typing import Any

import pytest
from gunicorn.config import Config
from gunicorn.http import wsgi
from gunicorn.http.parser import RequestParser

from api.server import environ
from api.server.plain_config import PlainConfig

CLIENT, SERVER = ("127.0.0.1", 5000), ("127.0.0.1", 8000)
LEFT_OUT = {"wsgi.early_hints", "wsgi.file_wrapper"}
OWN = {"wsgi.errors", "SERVER_SOFTWARE", "wsgi.multithread", "wsgi.multiprocess"}
"""Of the worker or the process, not of a request."""
REQUESTS = (
    b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n",
    b"POST /v1/jobs?wait=1&a=%20 HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
    b"Content-Length: 2\r\nIdempotency-Key: k\r\n\r\n{}",
    b"GET /a%20b/%C3%A9?x HTTP/1.0\r\nX-Two: a\r\nx-two: b\r\nX-TWO:\r\n\r\n",
    b"POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    b"GET http://a.example/v1/jobs?q HTTP/1.1\r\nHost: a.example\r\n\r\n",
    b"GET //double HTTP/1.1\r\nHost: a\r\nAccept: a\r\nAccept: b\r\n\r\n",
)


@pytest.mark.parametrize("data", REQUESTS, ids=lambda data: data[:24].decode())
def test_an_environment_is_gunicorns(data: bytes) -> None:
    cfg, sock = Config(), object()
    request: Any = next(RequestParser(cfg, iter([data]), CLIENT))
    _, theirs = wsgi.create(request, sock, CLIENT, SERVER, cfg)

    ours = environ.of_request(
        environ.of_connection(sock, CLIENT, SERVER, multiprocess=False), request
    )

    assert set(theirs) - set(ours) == LEFT_OUT
    assert {name: value for name, value in ours.items() if name not in OWN} == {
        name: value for name, value in theirs.items() if name not in LEFT_OUT | OWN
    }


def test_a_plain_configuration_says_what_gunicorns_says() -> None:
    config = Config()
    config.set("keepalive", 77)
    config.set("bind", ["127.0.0.1:1234"])

    plain = PlainConfig(config)

    assert plain.keepalive == 77 and plain.address == config.address and not plain.is_ssl
    for name in config.settings:
        assert getattr(plain, name) == getattr(config, name), name
    config.set("certfile", "a")
    assert PlainConfig(config).is_ssl
