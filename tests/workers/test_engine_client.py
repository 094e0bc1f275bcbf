"""A real host process: it is spawned, serves, dies in every way, and is spawned again."""

import os
from collections.abc import Iterator

import msgspec
import psutil
import pytest

from shared.catalog import Limits, ModelSpec
from tests.conftest import eventually
from workers.engine_client import EngineClient, EngineState
from workers.host.messages import Outcome, Stepped, Submit


class Listener:
    def __init__(self) -> None:
        self.outcomes: list[Outcome] = []
        self.lost: list[str] = []
        self.states: list[tuple[EngineState, str]] = []

    def engine_stepped(self, step: Stepped) -> None:
        self.outcomes += step.outcomes

    def engine_lost(self, reason: str) -> None:
        self.lost.append(reason)

    def engine_changed(self, state: EngineState, detail: str) -> None:
        self.states.append((state, detail))


def faulty(**options: object) -> ModelSpec:
    return ModelSpec(
        name="m",
        engine="tests.workers.faulty:Faulty",
        options=options,
        limits=Limits(step_timeout=1.0),
    )


@pytest.fixture
def listener() -> Listener:
    return Listener()


@pytest.fixture
def client(listener: Listener) -> Iterator[EngineClient]:
    client = EngineClient(faulty(), listener)
    client.start()
    eventually(lambda: client.state is EngineState.READY)
    pid = client.pid
    yield client
    client.stop()
    assert pid is not None and not psutil.pid_exists(pid)


def submit(client: EngineClient, ticket: str, content: str) -> None:
    request = msgspec.json.encode({"content": content, "params": {}, "seed": 1})
    assert client.send([Submit(ticket, request, 60, "expired")])


def test_the_parent_never_imports_torch(client: EngineClient, listener: Listener) -> None:
    submit(client, "a", "hi")
    eventually(lambda: listener.outcomes)
    assert listener.outcomes[0].kind == "finished"
    assert client.pid != os.getpid()


@pytest.mark.parametrize("fault", ["exit", "segfault", "hang"])
def test_a_host_that_dies_or_hangs_is_replaced(
    client: EngineClient, listener: Listener, fault: str
) -> None:
    first = client.pid
    submit(client, "a", fault)
    eventually(lambda: listener.lost, what="the loss is reported")
    eventually(lambda: client.state is EngineState.READY and client.pid not in (None, first))
    submit(client, "b", "fine")
    eventually(lambda: any(o.ticket == "b" for o in listener.outcomes))
    assert client.restarts == 1


def test_a_host_that_is_killed_is_replaced(client: EngineClient, listener: Listener) -> None:
    first = client.pid
    assert first is not None
    psutil.Process(first).kill()
    eventually(lambda: client.state is EngineState.READY and client.pid not in (None, first))
    assert listener.lost == ["signal 9"]


@pytest.mark.parametrize(
    ("way", "said"),
    [("refuse", "this model cannot be served"), ("raise", "RuntimeError: loading broke")],
)
def test_a_model_that_cannot_be_served_says_why(listener: Listener, way: str, said: str) -> None:
    client = EngineClient(faulty(load=way), listener)
    client.start()
    eventually(lambda: client.state is EngineState.FAILED)
    assert said in client.detail
    client.stop()
