"""The way of a token from an engine to a reader, file by file: `python -m bench.profile.entries` prints it.

All sides stand in this process: the loop of an engine host with an echo engine, a worker's executor, and an
app with a reader of the job's events. Between loop and executor is a socket, as between their processes.
Followed is the third piece of a job: what only the first one does is left out.
"""

import socket
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from bench.profile.entries import TOKEN, Entry, Walk, served
from shared.domain.models.catalog import ModelSpec
from shared.hooks import Observers
from shared.redis.script_pipeline import ScriptPipeline
from shared.store.events import EventHub, Follower
from shared.store.jobs import JobStore
from workers.engine_host.client import EngineClient
from workers.engine_host.events import EngineState
from workers.engine_host.shared_host import SharedHost
from workers.engines.echo import Echo
from workers.execution.executor import Executor
from workers.host.loop import Loop
from workers.host_protocol.channel import Channel, to_host, to_worker
from workers.host_protocol.messages import Command, Ready, Report, Stepped, Stop

PROMPT = "one two three four"
HUB_SECONDS = 60.0


def way_of_a_token(url: str, folder: Path) -> list[Entry]:
    """What a piece of text enters between the engine's step and the reader's bytes, in four threads' turns.

    `url`: of a Redis; `folder`: for the app's state.
    """
    hub = Walk(since=EventHub._deliver, until=Follower.push)
    threading.setprofile(hub.watch)
    try:
        with served(url, folder) as app:
            return _walk(app, hub)
    finally:
        threading.setprofile(None)


def _walk(app: Any, hub: Walk) -> list[Entry]:
    from api.services import of

    services = of(app)
    near, far = socket.socketpair()
    with near, far:
        worker = _Worker(services.store, services.catalog.get("echo"), to_host(near))
        host = _Host(worker.spec, to_worker(far))
        reader = _reader(app)
        worker.claim()
        host.take(worker.commands)
        # The first token is read from the log, the second is heard: the hub is through with both then.
        for _ in range(2):
            host.step()
            worker.hear()
            _read_token(reader)

        hub.restart()
        in_host = Walk(since=Echo.step, until=Channel.send)
        with in_host.here():
            host.step()
        in_worker = Walk(since=Channel.receive, until=ScriptPipeline.call)
        with in_worker.here():
            worker.hear()
        if not hub.ended.wait(HUB_SECONDS):
            raise TimeoutError("the event hub has heard nothing")
        in_reader = Walk(since=Follower.next, until=_read_token)
        with in_reader.here():
            _read_token(reader)
    return [*in_host.found, *in_worker.found, *hub.found, *in_reader.found]


def _reader(app: Any) -> Iterator[bytes]:
    """The events of a new job of several words, as its reader gets them."""
    client, headers = app.test_client(), {"Authorization": f"Bearer {TOKEN}"}
    body = {"model": "echo", "prompt": PROMPT, "params": {"step_ms": 1}}
    job = client.post("/v1/jobs", json=body, headers=headers).get_json()
    answer = client.get(f"/v1/jobs/{job['id']}/events", headers=headers, buffered=False)
    return iter(answer.response)


def _read_token(reader: Iterator[bytes]) -> None:
    while b"event: token" not in next(reader):
        pass


class _Client(EngineClient):
    """A client whose host is ready, and stands in this process."""

    def __init__(self, spec: ModelSpec, events: Any) -> None:
        super().__init__(spec, events)
        self.info = Ready(8, True, "cpu", "float32", {}, load_ms=0.0)
        self.state = EngineState.READY
        self.sent: list[Command] = []

    def send(self, commands: Sequence[Command]) -> bool:
        self.sent += commands
        return True

    def hear(self, channel: Channel[Command, Report]) -> None:
        host: Any = SimpleNamespace(channel=channel)
        self._events.engine_stepped(self._receive(host))


class _Worker:
    """A worker's executor, in front of a host in this process."""

    def __init__(self, store: JobStore, spec: ModelSpec, channel: Channel[Command, Report]) -> None:
        self.spec = spec
        self._store = store
        self._channel = channel
        shared = SharedHost(spec)
        self._client = shared.client = _Client(spec, shared)
        self._executor = Executor(
            store, spec, "walk", Observers(), _nothing, _nothing, _nothing, shared
        )

    @property
    def commands(self) -> list[Command]:
        return self._client.sent

    def claim(self) -> None:
        self._executor.run(self._store.claim(self.spec.name, 1, "walk").claims)

    def hear(self) -> None:
        self._client.hear(self._channel)


class _Host:
    """An engine host's loop with an echo engine."""

    def __init__(self, spec: ModelSpec, channel: Channel[Report, Command]) -> None:
        self._channel = channel
        self._commands: list[Command] = []
        self._reported = False
        self._loop = Loop(Echo(spec), self._next, self._report)

    def take(self, commands: Sequence[Command]) -> None:
        self._commands += commands

    def step(self) -> None:
        """Run until a step has brought something."""
        self._reported = False
        self._loop.run()

    def _next(self, _: float | None) -> list[Command]:
        taken, self._commands = self._commands, []
        return [Stop()] if self._reported else taken

    def _report(self, stepped: Stepped) -> None:
        self._channel.send([stepped])
        self._reported = True


def _nothing() -> None:
    """Nobody waits for room, a state or a doorbell here."""
