"""The worker's side of its engine host: spawn it, talk to it, watch it, kill and respawn it."""

import logging
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from multiprocessing.connection import Connection
from typing import Protocol

from shared.catalog import ModelSpec
from workers.host.messages import (
    Command,
    Load,
    Pulse,
    Ready,
    Refused,
    Stepped,
    Stop,
    receive_reports,
    send,
)

LOAD_SECONDS = 600.0
SILENCE_SECONDS = 30.0
POLL_SECONDS = 0.5
RESPAWN_SECONDS = (0.2, 30.0)

_log = logging.getLogger(__name__)


class EngineState(StrEnum):
    """`failed`: the host says that the model cannot be served; it is tried again, ever more rarely."""

    STARTING = "starting"
    READY = "ready"
    FAILED = "failed"
    STOPPED = "stopped"


class EngineEvents(Protocol):
    """Who listens to a host. Called from the client's one thread."""

    def engine_stepped(self, step: Stepped) -> None: ...

    def engine_lost(self, reason: str) -> None:
        """The host is gone with everything that it held."""

    def engine_changed(self, state: EngineState, detail: str) -> None: ...


@dataclass(frozen=True, slots=True)
class _Host:
    process: "subprocess.Popen[bytes]"
    connection: Connection


class EngineClient:
    """One engine host at a time. Its thread spawns, receives and watches; others submit and cancel.

    The thread that spawns must live as long as the worker: Linux ties the host's life to it.
    """

    def __init__(self, spec: ModelSpec, events: EngineEvents) -> None:
        self.spec = spec
        self.state = EngineState.STARTING
        self.detail = ""
        self.info: Ready | None = None
        self.restarts = 0
        self._events = events
        self._host: _Host | None = None
        self._sending = threading.Lock()
        self._stopped = threading.Event()
        self._heard = 0.0
        self._stepping = 0.0
        self._thread = threading.Thread(target=self._run, name="engine-client", daemon=True)

    @property
    def pid(self) -> int | None:
        host = self._host
        return host.process.pid if host is not None else None

    def start(self) -> None:
        self._thread.start()

    def stop(self, timeout: float = 1.0) -> None:
        """End the host: politely, then by force."""
        self._stopped.set()
        self.send([Stop()])
        self._thread.join(timeout)
        if self._thread.is_alive():
            self.kill("it did not stop in time")
            self._thread.join(timeout)

    def kill(self, reason: str) -> None:
        """Kill the host; its thread then reports the loss and spawns another."""
        host = self._host
        if host is not None and host.process.poll() is None:
            _log.error("killing the engine host of %s: %s", self.spec.name, reason)
            host.process.kill()

    def send(self, commands: Sequence[Command]) -> bool:
        """Send commands. False when there is no host to take them: their loss is being reported."""
        host = self._host
        if host is None:
            return False
        try:
            with self._sending:
                send(host.connection, commands)
        except OSError:
            return False
        return True

    # -- the client's thread

    def _run(self) -> None:
        shortest, longest = RESPAWN_SECONDS
        pause = shortest
        while not self._stopped.is_set():
            started = time.monotonic()
            reason = self._live()
            if self._stopped.is_set():
                break
            self.restarts += 1
            _log.error("engine host of %s is gone: %s", self.spec.name, reason)
            self._events.engine_lost(reason)
            pause = shortest if time.monotonic() - started > 60 else min(longest, pause * 2)
            self._stopped.wait(pause)
        self._change(EngineState.STOPPED, "")

    def _live(self) -> str:
        """One host from birth to death. Returns why it ended."""
        if self.state is not EngineState.FAILED:
            self._change(EngineState.STARTING, "")
        self._heard = time.monotonic()
        self._stepping = 0.0
        host = self._spawn()
        self._host = host
        try:
            send(host.connection, [Load(self.spec.model_dump_json().encode())])
            while True:
                if host.connection.poll(POLL_SECONDS):
                    self._receive(host)
                self._watch()
        except (EOFError, OSError):
            pass
        finally:
            self._host = None
            self.info = None
            host.process.kill()
            code = host.process.wait()
            host.connection.close()
        if self.state is EngineState.READY and not self._stopped.is_set():
            self._change(EngineState.STARTING, "")
        return f"exit status {code}" if code >= 0 else f"signal {-code}"

    def _spawn(self) -> _Host:
        ours, theirs = socket.socketpair()
        with theirs:
            environment = os.environ | {"TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1"}
            process = subprocess.Popen(
                [sys.executable, "-m", "workers.host", str(theirs.fileno())],
                pass_fds=(theirs.fileno(),),
                stdin=subprocess.DEVNULL,
                env=environment,
            )
        return _Host(process, Connection(ours.detach()))

    def _receive(self, host: _Host) -> None:
        for report in receive_reports(host.connection):
            self._heard = time.monotonic()
            match report:
                case Stepped():
                    self._stepping = 0.0
                    self._events.engine_stepped(report)
                case Pulse():
                    self._stepping = report.stepping
                case Ready():
                    self.info = report
                    self._change(EngineState.READY, f"loaded in {report.load_ms / 1000:.1f} s")
                case Refused():
                    self._change(EngineState.FAILED, report.message)

    def _watch(self) -> None:
        silence = time.monotonic() - self._heard
        allowed = SILENCE_SECONDS if self.info is not None else LOAD_SECONDS
        limit = self.spec.limits.step_timeout
        if silence > allowed:
            self.kill(f"it has been silent for {silence:.0f} s")
        elif self._stepping + (silence if self._stepping else 0) > limit:
            self.kill(f"a step has run for more than {limit:g} s")

    def _change(self, state: EngineState, detail: str) -> None:
        if (state, detail) == (self.state, self.detail) and state is not EngineState.STARTING:
            return
        self.state, self.detail = state, detail
        self._events.engine_changed(state, detail)
