"""The worker's side of an engine host: starts it, sends it commands, watches it, drains and replaces it."""

import logging
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from shared.domain.errors import ConfigError
from shared.domain.models.catalog import ModelSpec
from workers.engine_host.events import Cause, EngineEvents, EngineState
from workers.engine_host.memory_limit import DRAIN_SECONDS, MemoryLimit, Verdict
from workers.engine_host.process import Host, spawn
from workers.engine_host.respawn import next_pause
from workers.host_protocol.messages import (
    Command,
    Load,
    Lost,
    Pulse,
    Ready,
    Refused,
    Stepped,
    Stop,
)

LOAD_SECONDS = 600.0
SILENCE_SECONDS = 30.0
POLL_SECONDS = 0.5
RESPAWN_SECONDS = (0.2, 30.0)
STILLBORN = 3
"""Hosts that died one after the other while loading, after which the model counts as failed."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class HostOptions:
    """What the settings say of engine hosts.

    `memory_limit` is in bytes of resident memory, `max_output` in bytes of one job's output; 0: no bound.
    """

    memory_limit: int | None = None
    state_dir: Path | None = None
    max_output: int = 0
    drain_seconds: float = DRAIN_SECONDS


class EngineClient:
    """One engine host at a time. Its thread spawns, receives and watches; others submit and cancel.

    `restart_seconds`: from the last death of a host to the next one being ready. `memory`: the host's
    resident bytes. `budget`: see `Pulse`.
    """

    def __init__(
        self, spec: ModelSpec, events: EngineEvents, options: HostOptions | None = None
    ) -> None:
        self.spec = spec
        self.state = EngineState.STARTING
        self.detail = ""
        self.info: Ready | None = None
        self.restarts = 0
        self.restart_seconds: float | None = None
        self.memory = 0
        self.budget: float | None = None
        self._events = events
        self._options = options or HostOptions()
        self._host: Host | None = None
        self._stopped = threading.Event()
        self._heard = 0.0
        self._looked = 0.0
        self._died: float | None = None
        self._stillborn = 0
        self._cause: Cause = "crash"
        self._culprit = ""
        self._reason = ""
        self._memory_limit = MemoryLimit(None)
        self._thread = threading.Thread(target=self._run, name="engine-client", daemon=True)

    @property
    def pid(self) -> int | None:
        host = self._host
        return host.pid if host is not None else None

    @property
    def draining(self) -> bool:
        return self._memory_limit.draining

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
        if host is not None and host.reaper.poll() is None:
            _log.error("killing the engine host of %s: %s", self.spec.name, reason)
            host.kill()

    def send(self, commands: Sequence[Command]) -> bool:
        """Send commands, without waiting for a host that does not read: it reads between its steps.

        False when there is no host to take them: their loss is being reported.
        """
        host = self._host
        if host is None:
            return False
        try:
            host.channel.post(commands)
        except OSError:
            return False
        return True

    # -- the client's thread

    def _run(self) -> None:
        pause = RESPAWN_SECONDS[0]
        while not self._stopped.is_set():
            started = time.monotonic()
            reason = self._live()
            if self._stopped.is_set():
                break
            self.restarts += 1
            self._died = time.monotonic()
            # Why a model cannot be served was said when that came out; each try would say it again.
            level = logging.DEBUG if self.state is EngineState.FAILED else logging.ERROR
            _log.log(level, "engine host of %s is gone: %s", self.spec.name, reason)
            self._events.engine_lost(reason, self._cause, self._culprit)
            failed = self.state is EngineState.FAILED
            pause = next_pause(pause, time.monotonic() - started, RESPAWN_SECONDS, failed=failed)
            self._stopped.wait(pause)
        self._change(EngineState.STOPPED, "")

    def _live(self) -> str:
        """One host from its start to its end. Returns why it ended."""
        if self.state is not EngineState.FAILED:
            self._change(EngineState.STARTING, "")
        self._heard = time.monotonic()
        self.budget = None
        self._cause = "crash"
        self._culprit = ""
        self._reason = ""
        where = f"models.{self.spec.name}.env"
        try:
            host = spawn(self.spec.python, self.spec.env, where=where)
        except (OSError, ConfigError) as error:
            self._change(EngineState.FAILED, f"the engine host cannot be started: {error}")
            return str(error)
        self._host = host
        try:
            spec = self.spec.model_dump_json().encode()
            host.channel.post([Load(spec, self._ceilings(), self._options.max_output)])
            while True:
                steps = self._receive(host)
                # Before what may take its time, of which nobody is to think that the host was silent.
                self._watch(host)
                if steps:
                    self._events.engine_stepped(steps)
        except (EOFError, OSError):
            pass
        except msgspec.MsgspecError as error:
            self._reason = f"it said what cannot be read: {error}"
        finally:
            self._host = None
            ready, self.info = self.info is not None, None
            self._memory_limit = MemoryLimit(None)
            code = host.end()
            last = host.call
            if last.since and not self._culprit:
                self._culprit = last.ticket
        ended = f"exit status {code}" if code >= 0 else f"signal {-code}"
        if not self._stopped.is_set():
            self._note_end(ended, ready=ready)
        return f"{self._reason} ({ended})" if self._reason else ended

    def _note_end(self, ended: str, *, ready: bool) -> None:
        """Say what state the model is in now that its host is dead."""
        self._stillborn = 0 if ready else self._stillborn + 1
        if self.state in (EngineState.READY, EngineState.UNHEALTHY):
            self._change(EngineState.STARTING, "")
        elif self._stillborn >= STILLBORN and self.state is not EngineState.FAILED:
            detail = f"{STILLBORN} engine hosts ended while they loaded the model: {ended}"
            self._change(EngineState.FAILED, detail)

    def _ceilings(self) -> str:
        folder = self._options.state_dir
        return str(folder / "ceilings" / f"{self.spec.name}.json") if folder is not None else ""

    def _receive(self, host: Host) -> list[Stepped]:
        """Hear what the host says, for `POLL_SECONDS` if it says nothing. Returns what its steps brought."""
        steps: list[Stepped] = []
        reports = host.channel.receive(POLL_SECONDS)
        if reports:
            self._heard = time.monotonic()
        for report in reports:
            match report:
                case Stepped():
                    steps.append(report)
                case Pulse():
                    self.budget = report.budget
                    self._memory_limit.pulse(report.pending)
                case Ready():
                    self._loaded(host, report)
                case Lost():
                    self._cause = "crash" if report.blames else "device"
                    self._culprit = report.ticket
                    self._reason = f"its device is gone: {report.message}"
                case Refused():
                    self._change(EngineState.FAILED, report.message)
        return steps

    def _loaded(self, host: Host, report: Ready) -> None:
        limit = self._options.memory_limit
        self.memory = host.resident()
        if limit is not None and self.memory > limit:
            self._change(
                EngineState.FAILED,
                f"the loaded model takes {_gib(self.memory)} GiB of memory, and ENGINE_MEMORY_LIMIT"
                f" is {_gib(limit)} GiB",
            )
            host.kill()
            return
        detail = f"loaded in {report.load_ms / 1000:.1f} s"
        if self._died is not None:
            self.restart_seconds = round(time.monotonic() - self._died, 3)
            self._died = None
            detail += f", ready again after {self.restart_seconds:.1f} s"
        self._memory_limit = MemoryLimit(limit, self._options.drain_seconds)
        self.info = report
        self._change(EngineState.READY, detail)

    def _watch(self, host: Host) -> None:
        now = time.monotonic()
        if now - self._looked >= POLL_SECONDS:
            self._looked = now
            self.memory = host.resident()
            self._heed(self._memory_limit.judge(self.memory, now), host)
        call, limit = host.call, self.spec.limits.step_timeout
        if call.since:
            # A model may hold the interpreter, so that no pulse comes: that is no silence.
            if now - call.since > limit:
                what = "taking a job in or out" if call.ticket else "a step"
                self._give_up(f"{what} has taken more than {limit:g} s")
            return
        silence = now - self._heard
        if silence > (max(SILENCE_SECONDS, limit) if self.info is not None else LOAD_SECONDS):
            self._give_up(f"it has been silent for {silence:.0f} s")

    def _give_up(self, reason: str) -> None:
        self._reason = reason
        self.kill(reason)

    def _heed(self, verdict: Verdict, host: Host) -> None:
        held = f"it holds {_gib(self.memory)} GiB, over ENGINE_MEMORY_LIMIT"
        match verdict:
            case "drain":
                _log.warning("draining the engine host of %s: %s", self.spec.name, held)
                self._change(EngineState.UNHEALTHY, held)
            case "replace":
                # What it still holds goes back uncharged: this end is nobody's fault.
                self._cause = "drained"
                self._reason = "it was over ENGINE_MEMORY_LIMIT and has been drained"
                host.kill()
            case "kill":
                self._give_up(held)

    def _change(self, state: EngineState, detail: str) -> None:
        if (state, detail) == (self.state, self.detail) and state is not EngineState.STARTING:
            return
        self.state, self.detail = state, detail
        self._events.engine_changed(state, detail)


def _gib(count: int) -> str:
    return f"{count / 2**30:.1f}"
