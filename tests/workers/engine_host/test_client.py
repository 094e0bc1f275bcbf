"""A real host process: it is spawned, serves, dies in every way, and is spawned again."""

import logging
import os
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace

import msgspec
import psutil
import pytest

from shared.domain.models.catalog import Limits, ModelSpec
from tests.conftest import eventually
from workers.engine_host.client import EngineClient, HostOptions
from workers.engine_host.events import Cause, EngineState
from workers.host_protocol.messages import Outcome, Ready, Stepped, Submit
from workers.host_protocol.progress import Call

MIB = 2**20


class Listener:
    def __init__(self) -> None:
        self.outcomes: list[Outcome] = []
        self.lost: list[str] = []
        self.causes: list[Cause] = []
        self.culprits: list[str] = []
        self.states: list[tuple[EngineState, str]] = []

    def engine_stepped(self, steps: Sequence[Stepped]) -> None:
        self.outcomes += [outcome for step in steps for outcome in step.outcomes]

    def engine_lost(self, reason: str, cause: Cause, culprit: str) -> None:
        self.causes.append(cause)
        self.culprits.append(culprit)
        self.lost.append(reason)

    def engine_changed(self, state: EngineState, detail: str) -> None:
        self.states.append((state, detail))


def faulty(step_timeout: float = 5.0, **options: object) -> ModelSpec:
    return ModelSpec(
        name="m",
        engine="tests.workers.faulty:Faulty",
        options=options,
        limits=Limits(step_timeout=step_timeout),
    )


@pytest.fixture
def listener() -> Listener:
    return Listener()


@pytest.fixture(scope="module")
def one_client() -> Iterator[EngineClient]:
    client = EngineClient(faulty(step_timeout=0.8), Listener())
    patch = pytest.MonkeyPatch()
    patch.setattr("workers.engine_host.client.RESPAWN_SECONDS", (0.02, 0.05))
    client.start()
    yield client
    eventually(lambda: client.state is EngineState.READY)
    pid = client.pid
    client.stop()
    patch.undo()
    assert pid is not None and not psutil.pid_exists(pid)


@pytest.fixture
def client(one_client: EngineClient, listener: Listener) -> EngineClient:
    """One that is ready. The tests of this file share it: each start costs most of a second."""
    eventually(lambda: one_client.state is EngineState.READY)
    one_client._events, one_client.restarts = listener, 0
    return one_client


def submit(client: EngineClient, ticket: str, content: str) -> None:
    request = msgspec.json.encode({"content": content, "params": {}, "seed": 1})
    assert client.send([Submit(ticket, request, 60, "expired")])


def test_the_parent_never_imports_torch(client: EngineClient, listener: Listener) -> None:
    submit(client, "a", "hi")
    eventually(lambda: listener.outcomes)
    assert listener.outcomes[0].kind == "finished"
    assert client.pid != os.getpid()


@pytest.mark.parametrize(
    ("fault", "cause", "culprit"),
    [
        ("exit", "crash", ""),
        ("segfault", "crash", ""),
        ("hang", "crash", ""),
        ("device assert", "crash", ""),
        ("device lost", "device", ""),
        ("hang on admission", "crash", "a"),
        ("exit on admission", "crash", "a"),
        ("device assert on admission", "crash", "a"),
    ],
)
def test_a_host_that_dies_or_hangs_is_replaced(
    client: EngineClient, listener: Listener, fault: str, cause: Cause, culprit: str
) -> None:
    first = client.pid
    submit(client, "a", fault)
    eventually(lambda: listener.lost, what="the loss is reported")
    eventually(lambda: client.state is EngineState.READY and client.pid not in (None, first))
    submit(client, "b", "fine")
    eventually(lambda: any(o.ticket == "b" for o in listener.outcomes))
    assert client.restarts == 1
    assert client.restart_seconds is not None and client.restart_seconds > 0
    assert f"ready again after {client.restart_seconds:.1f} s" in client.detail
    assert (listener.causes, listener.culprits) == ([cause], [culprit])
    if fault in ("device assert", "device lost"):
        assert "CUDA error" in listener.lost[0] and "exit status 5" in listener.lost[0]
    assert [state.value for state, _ in listener.states][-2:] == ["starting", "ready"]


def test_a_step_that_holds_the_interpreter_is_killed_for_its_time_and_not_for_silence(
    client: EngineClient, listener: Listener
) -> None:
    submit(client, "a", "hold 60")
    eventually(lambda: listener.lost)
    assert listener.lost == ["a step has taken more than 0.8 s (signal 9)"]


@pytest.mark.parametrize(
    ("since", "ticket", "heard", "why"),
    [
        (0.0, "", 29.0, ""),
        (0.0, "", 31.0, ""),
        (0.0, "", 121.0, "it has been silent for 121 s"),
        (119.0, "", 119.0, ""),
        (121.0, "", 121.0, "a step has taken more than 120 s"),
        (119.0, "j/1", 0.0, ""),
        (121.0, "j/1", 0.0, "taking a job in or out has taken more than 120 s"),
    ],
)
def test_what_a_host_is_killed_for(
    listener: Listener, since: float, ticket: str, heard: float, why: str
) -> None:
    client = EngineClient(faulty(step_timeout=120.0), listener)
    client.info = Ready(1, False, "cpu", "", {}, 0.0)
    now = time.monotonic()
    client._heard = now - heard
    client._looked = now
    client._watch(SimpleNamespace(call=Call(1, now - since if since else 0.0, ticket)))  # type: ignore[arg-type]
    assert client._reason == why


def test_a_host_sees_of_the_environment_what_its_entry_names(
    listener: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("REDIS_URL", "TRUTHGPT_API_TOKEN", "WEBHOOK_HMAC_SECRET", "WANTED", "UNWANTED"):
        monkeypatch.setenv(name, f"value of {name}")
    client = EngineClient(faulty().model_copy(update={"env": ("WANTED",)}), listener)
    client.start()
    eventually(lambda: client.state is EngineState.READY)
    submit(client, "a", "environment")
    eventually(lambda: listener.outcomes)
    seen = msgspec.json.decode(listener.outcomes[0].output)
    client.stop()

    assert {value for value in seen.values() if value.startswith("value of")} == {"value of WANTED"}
    assert seen["PATH"] == os.environ["PATH"] and seen["HF_HUB_OFFLINE"] == "1"


def test_a_variable_that_is_named_and_not_set_is_told(listener: Listener) -> None:
    client = EngineClient(faulty().model_copy(update={"env": ("NOT_SET_HERE",)}), listener)
    client.start()
    eventually(lambda: client.state is EngineState.FAILED)
    assert "models.m.env: NOT_SET_HERE is not set" in client.detail
    client.stop()


def test_a_host_that_is_killed_is_replaced(client: EngineClient, listener: Listener) -> None:
    first = client.pid
    assert first is not None
    psutil.Process(first).kill()
    eventually(lambda: client.state is EngineState.READY and client.pid not in (None, first))
    assert listener.lost == ["signal 9"]


def test_a_host_that_says_what_cannot_be_read_is_replaced(
    client: EngineClient, listener: Listener
) -> None:
    first = client.pid
    submit(client, "a", "babble")
    eventually(lambda: client.state is EngineState.READY and client.pid not in (None, first))
    assert listener.causes == ["crash"]
    assert listener.lost[0].startswith("it said what cannot be read: ")


def test_a_host_over_its_memory_limit_is_drained_and_replaced(listener: Listener) -> None:
    client = EngineClient(faulty(), listener, HostOptions(memory_limit=400 * MIB))
    client.start()
    eventually(lambda: client.state is EngineState.READY)
    submit(client, "long", "slow 100")
    submit(client, "a", "balloon 390")
    eventually(lambda: client.state is EngineState.UNHEALTHY)
    assert client.draining and "ENGINE_MEMORY_LIMIT" in client.detail
    eventually(lambda: listener.lost)
    assert {o.ticket for o in listener.outcomes} == {"a", "long"}, "it had time to finish"
    assert listener.causes == ["drained"]
    eventually(lambda: client.state is EngineState.READY and not client.draining)
    eventually(lambda: 0 < client.memory < 400 * MIB, what="the new host has been measured")
    client.stop()


def test_a_drain_has_a_bound(listener: Listener) -> None:
    options = HostOptions(memory_limit=400 * MIB, drain_seconds=0.2)
    client = EngineClient(faulty(), listener, options)
    client.start()
    eventually(lambda: client.state is EngineState.READY)
    submit(client, "long", "slow 100000")
    submit(client, "a", "balloon 390")
    eventually(lambda: listener.lost)
    assert listener.causes == ["drained"]
    assert {o.ticket for o in listener.outcomes} == {"a"}
    client.stop()


def test_a_host_far_over_its_limit_is_killed(listener: Listener) -> None:
    client = EngineClient(faulty(), listener, HostOptions(memory_limit=400 * MIB))
    client.start()
    eventually(lambda: client.state is EngineState.READY)
    submit(client, "a", "balloon 600")
    eventually(lambda: listener.lost)
    assert listener.causes == ["crash"] and "ENGINE_MEMORY_LIMIT" in listener.lost[0]
    client.stop()


def test_a_model_that_is_too_large_by_itself_says_so(listener: Listener) -> None:
    client = EngineClient(faulty(), listener, HostOptions(memory_limit=8 * MIB))
    client.start()
    eventually(lambda: client.state is EngineState.FAILED)
    assert "ENGINE_MEMORY_LIMIT is 0.0 GiB" in client.detail
    client.stop()


@pytest.mark.parametrize(
    ("python", "said"), [("/no/python", "cannot be started"), ("/bin/false", "exit status 1")]
)
def test_an_interpreter_that_cannot_run_the_host_is_a_failure(
    listener: Listener, python: str, said: str
) -> None:
    spec = faulty().model_copy(update={"python": Path(python)})
    client = EngineClient(spec, listener)
    client.start()
    eventually(lambda: client.state is EngineState.FAILED)
    assert said in client.detail
    client.stop()


def test_another_interpreter_serves_as_well(listener: Listener) -> None:
    spec = faulty().model_copy(update={"python": Path(sys.executable)})
    client = EngineClient(spec, listener)
    client.start()
    eventually(lambda: client.state is EngineState.READY)
    client.stop()
    assert [state.value for state, _ in listener.states][:2] == ["starting", "ready"]


def test_what_did_not_fit_is_kept_for_the_next_host(listener: Listener, tmp_path: Path) -> None:
    spec = faulty(budget=64, memory=20)
    client = EngineClient(spec, listener, HostOptions(state_dir=tmp_path))
    client.start()
    eventually(lambda: client.state is EngineState.READY)
    request = msgspec.json.encode({"content": "cost 8", "params": {}, "seed": 1})
    assert client.send([Submit(f"a{n}", request, 60, "expired") for n in range(8)])
    eventually(lambda: len(listener.outcomes) == 8)
    eventually(lambda: client.budget not in (None, 64))
    assert all(o.kind == "finished" for o in listener.outcomes)
    learned = client.budget
    assert learned is not None and learned <= 20
    client.kill("test")
    eventually(lambda: client.restarts == 1 and client.state is EngineState.READY)
    eventually(lambda: client.budget == learned)
    client.stop()


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


def test_a_model_that_cannot_be_served_is_told_once(
    listener: Listener, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("workers.engine_host.client.RESPAWN_SECONDS", (0.01, 0.02))
    caplog.set_level(logging.INFO, "workers.engine_host.client")
    client = EngineClient(faulty(load="refuse"), listener)
    client.start()
    eventually(lambda: client.restarts == 3)
    client.stop()

    failed = [detail for state, detail in listener.states if state is EngineState.FAILED]
    assert failed == ["this model cannot be served"]
    assert "is gone" not in caplog.text


def test_who_sends_to_a_host_that_hangs_does_not_wait(
    client: EngineClient, listener: Listener
) -> None:
    submit(client, "a", "hang")
    large = Submit("b", msgspec.json.encode({"content": "x" * 8 * MIB}), 60, "expired")
    sender = threading.Thread(target=client.send, args=([large],), daemon=True)
    host = client._host
    assert host is not None
    sender.start()
    sender.join(10)
    assert not sender.is_alive() and host.reaper.poll() is None
    eventually(lambda: listener.lost, what="the watchdog kills it all the same")
