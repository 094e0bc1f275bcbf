import threading

import pytest

from cli.serving import readiness
from cli.serving.readiness import await_models
from client import Client
from tests.client.conftest import ScriptedServer, answer, hang_up, problem

NOT_READY = problem(503, "model_unavailable", "echo is starting")


@pytest.fixture
def client(server: ScriptedServer, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(readiness, "POLL", 0.02)
    monkeypatch.setattr(readiness, "MODELS_POLL", 0.02)
    monkeypatch.setattr(readiness, "REMIND", 0.05)
    with Client(server.url, "t", retry_for=0.1) as ours:
        yield ours


def models(**states: str):
    rows = [
        {"id": name, "engine": "echo", "state": state, "workers": []}
        for name, state in states.items()
    ]
    return answer({"data": rows})


def test_it_waits_until_every_model_has_come_up_or_failed(
    client: Client, server: ScriptedServer
) -> None:
    server.replies = [
        hang_up,
        NOT_READY,
        NOT_READY,
        answer({"status": "ready"}),
        models(one="ready", two="starting"),
        models(one="busy", two="failed"),
    ]

    found = await_models(client, lambda line: None, threading.Event(), 10)

    assert {model.name: model.state for model in found} == {"one": "busy", "two": "failed"}
    assert [seen.path for seen in server.seen] == ["/ready"] * 4 + ["/v1/models"] * 2


def test_it_says_what_is_missing_and_gives_up(client: Client, server: ScriptedServer) -> None:
    server.replies = [NOT_READY]
    said: list[str] = []

    with pytest.raises(TimeoutError, match=r"not ready after 0\.3 s: echo is starting"):
        await_models(client, said.append, threading.Event(), 0.3)

    assert "not ready yet: echo is starting" in said


def test_it_ends_with_the_server(client: Client, server: ScriptedServer) -> None:
    server.replies = [NOT_READY]
    over = threading.Event()
    over.set()
    assert await_models(client, lambda line: None, over) == []
