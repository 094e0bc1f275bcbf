"""`truthgpt health`: 1 only where a restart is the cure."""

import socket
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread

import msgspec
import pytest
from click.testing import CliRunner, Result

from cli.main import main
from shared.store.jobs import JobStore
from tests.ports import free_port


@pytest.fixture
def deployment(store: JobStore, redis_url: str, monkeypatch: pytest.MonkeyPatch) -> JobStore:
    monkeypatch.setenv("TRUTHGPT_KEY_PREFIX", store.keys.prefix)
    monkeypatch.setenv("REDIS_URL", redis_url)
    monkeypatch.setenv("TRUTHGPT_MODEL", "m")
    return store


def health(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["health", *arguments])


def test_a_worker(deployment: JobStore) -> None:
    assert health("worker").exit_code == 1
    said = msgspec.json.encode({"state": "starting", "host": socket.gethostname()})
    deployment.beat("m", "w", said, [])
    assert health("worker").exit_code == 0
    assert health("worker", "--model", "another").exit_code == 1
    assert health("worker", "--serving").exit_code == 1


def test_the_rescue_worker(deployment: JobStore) -> None:
    assert health("rescue").exit_code == 1
    deployment.lock_rescue("rescuer", 30.0)
    assert health("rescue").exit_code == 0


def test_a_store_that_is_away_is_no_reason_to_restart(
    deployment: JobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REDIS_URL", f"redis://127.0.0.1:{free_port()}/0")
    for arguments in (("worker",), ("rescue",)):
        result = health(*arguments)
        assert result.exit_code == 0 and "cannot tell" in result.stderr
    assert health("worker", "--serving").exit_code == 1


class Pages(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response({"/health": 200, "/healthcheck": 500}[self.path])
        self.end_headers()

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def port() -> Iterator[str]:
    server = HTTPServer(("127.0.0.1", 0), Pages)
    thread = Thread(target=server.serve_forever)
    thread.start()
    yield str(server.server_port)
    server.shutdown()
    thread.join()
    server.server_close()


def test_what_speaks_http_must_answer_200(port: str) -> None:
    assert health("api", "--port", port).exit_code == 0
    assert health("flower", "--port", port).exit_code == 1
    assert health("api", "--port", str(free_port())).exit_code == 1
