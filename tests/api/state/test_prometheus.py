"""The history of Prometheus: asked with bounds, and told once for many who look."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from api.state import prometheus
from api.state.prometheus import POINTS, QUERIES, Prometheus, PrometheusAway
from tests.ports import free_port


class Played:
    """Answers each question as it is told to: with a status and a body, or with rows at each step."""

    def __init__(self) -> None:
        self.asked: list[dict[str, str]] = []
        self.status, self.body = 200, b""
        played = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                query = {k: v[0] for k, v in parse_qs(urlsplit(self.path).query).items()}
                played.asked.append(query)
                body = played.body or played.rows(query)
                self.send_response(played.status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                """Nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def rows(self, query: dict[str, str]) -> bytes:
        at = range(int(query["start"]), int(query["end"]) + 1, int(query["step"]))
        values = [[moment, "NaN" if n == 1 else str(n)] for n, moment in enumerate(at) if n != 2]
        told = {
            "status": "success",
            "data": {"resultType": "matrix", "result": [{"values": values}]},
        }
        return json.dumps(told).encode()


@pytest.fixture
def played() -> Iterator[Played]:
    one = Played()
    yield one
    one.server.shutdown()
    one.server.server_close()


@pytest.mark.parametrize("hours", prometheus.RANGES)
def test_columns_have_a_value_or_none_for_each_moment(played: Played, hours: int) -> None:
    told = Prometheus(f"{played.url}/").read(hours)

    assert set(told) == {"at", *QUERIES}
    assert len({len(column) for column in told.values()}) == 1 and len(told["at"]) <= POINTS + 1
    assert told["ended"][:4] == [0.0, None, None, 3.0]
    assert told["at"][-1] - told["at"][0] == 3600 * hours  # type: ignore[operator]


def test_many_who_look_ask_once(played: Played) -> None:
    one = Prometheus(played.url)

    assert one.read(24) == one.read(24)
    assert len(played.asked) == len(QUERIES)
    one.read(6)
    assert len(played.asked) == 2 * len(QUERIES)


def test_of_what_was_never_counted_there_are_no_values(played: Played) -> None:
    played.body = b'{"status":"success","data":{"result":[]}}'

    assert set(Prometheus(played.url).read(6)["ended"]) == {None}


@pytest.mark.parametrize(
    ("status", "body"),
    [
        *((503, b"x"), (302, b"x"), (200, b"<html>"), (200, b"[]"), (200, b"null")),
        *((200, b'{"data":{"result":[{"values":[[1]]}]}}'), (200, b'{"data":{"result":3}}')),
        (200, b" " * (prometheus.MOST_BYTES + 1)),
    ],
)
def test_anything_but_an_answer_is_none_and_is_asked_once(
    played: Played, status: int, body: bytes
) -> None:
    played.status, played.body = status, body
    one = Prometheus(played.url)

    for _ in range(3):
        with pytest.raises(PrometheusAway):
            one.read(6)

    assert len(played.asked) == 1


def test_where_nobody_listens_it_is_away() -> None:
    with pytest.raises(PrometheusAway):
        Prometheus(f"http://127.0.0.1:{free_port()}").read(6)
