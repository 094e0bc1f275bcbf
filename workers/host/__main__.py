"""Entry of the engine host: `python -m workers.host SOCKET PAGE`, two descriptors inherited from the worker.

Threads: the loop (main thread) owns the engine, reads commands between its steps and writes reports; `pulse`
writes the pulse. When the worker dies, however it dies, the host ends: its reaper kills it, and where there
is no reaper any more either, Linux does, or the pulse finds the socket closed.
"""

import ctypes
import gc
import logging
import multiprocessing
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing import context
from pathlib import Path
from typing import Any

from shared.domain.errors import ConfigError, JobsError
from shared.domain.models.catalog import ModelSpec
from shared.settings import Settings, load_settings
from shared.telemetry import logs
from workers.engines.base import Engine, EngineInfo
from workers.engines.batching.budget import Budget
from workers.engines.faults import DeviceLost
from workers.host.ceilings import Ceilings, device_identity, shape_key
from workers.host.loop import Loop
from workers.host.watched import Watched
from workers.host_protocol.channel import Channel, to_worker
from workers.host_protocol.messages import (
    PULSE_SECONDS,
    Command,
    Load,
    Lost,
    Pulse,
    Ready,
    Refused,
    Report,
)
from workers.host_protocol.progress import Progress

DEVICE_LOST = 5
"""Exit status of a host whose device is of no use to it any more."""
PR_SET_PDEATHSIG = 1
LEFT_TO_THE_WORKER = (signal.SIGINT, signal.SIGTERM)

_log = logging.getLogger("workers.host")


def die_with_parent() -> None:
    """Ask Linux to kill this process when its reaper ends (prctl(2))."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def leave_signals_to_the_worker() -> None:
    """Let SIGTERM and SIGINT pass: a service manager may send them to every process, and the worker drains.

    They are heard and not ignored, for a child inherits what is ignored: `multiprocessing.Pool` ends its
    processes with SIGTERM and then waits for them. A program that is started gets the defaults from the
    system. A fork gets them here, and meanwhile they wait: Python forgets signals that came before.
    """
    for signum in LEFT_TO_THE_WORKER:
        signal.signal(signum, lambda *_: None)
        signal.siginterrupt(signum, False)
    masks = threading.local()

    def hold() -> None:
        masks.before = signal.pthread_sigmask(signal.SIG_BLOCK, LEFT_TO_THE_WORKER)

    def let_pass() -> None:
        signal.pthread_sigmask(signal.SIG_SETMASK, masks.before)

    def let_pass_as_usual() -> None:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        let_pass()

    os.register_at_fork(before=hold, after_in_parent=let_pass, after_in_child=let_pass_as_usual)


def start_processes_clean() -> None:
    """Have `multiprocessing` fork from a process without threads, as it does by itself from Python 3.14 on.

    A fork of this process has none of its threads but the locks that they held: torch's and the memory
    allocator's among them, for which the child then waits for ever. Only the default is another one:
    `set_start_method` would keep a model from choosing its own.
    """
    if "forkserver" in multiprocessing.get_all_start_methods():
        default: Any = context._default_context
        default._default_context = multiprocessing.get_context("forkserver")


class Worker:
    """The worker as its host has it: who gives commands and takes reports. When it is gone, the host ends.

    A report is written at once, by who has it: another thread would first have to get the interpreter from
    the loop. A worker that does not read makes the loop wait, so nothing grows without bound.
    """

    def __init__(self, channel: Channel[Report, Command]) -> None:
        self._channel = channel
        self._early: list[Command] = []
        self.loop: Loop | None = None

    def load(self) -> Load:
        """What the worker says first. What has come behind it waits for the loop."""
        first, *self._early = self.commands()
        if not isinstance(first, Load):
            raise TypeError(f"expected Load first, got {type(first).__name__}")
        return first

    def commands(self, timeout: float | None = None) -> list[Command]:
        """All that wait; while there are none wait up to `timeout` seconds for some (None: for ever)."""
        if self._early:
            early, self._early = self._early, []
            return early
        try:
            return self._channel.receive(timeout)
        except (EOFError, OSError):
            os._exit(0)

    def report(self, report: Report) -> None:
        try:
            self._channel.send([report])
        except OSError:
            os._exit(0)

    def pulse(self) -> None:
        """Write a pulse every `PULSE_SECONDS`."""
        while True:
            loop = self.loop
            self.report(Pulse(loop.pending, loop.budget) if loop is not None else Pulse(0))
            time.sleep(PULSE_SECONDS)


@contextmanager
def kept_for_good() -> Iterator[None]:
    """What is made in here is never searched for garbage, neither now nor later.

    Importing an engine makes a million objects that stay; looking through them, over and over while they
    come and at each collection from then on, takes a sixth of the import and most of a collection.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


def main() -> None:
    started = time.perf_counter()
    die_with_parent()
    leave_signals_to_the_worker()
    start_processes_clean()
    channel, progress = _inherited(*map(int, sys.argv[1:]))
    settings = load_settings()
    logs.configure(settings, f"engine-{settings.model}" if settings.model else "engine")
    worker = Worker(channel)
    threading.Thread(target=worker.pulse, name="pulse", daemon=True).start()
    _prepare(settings)
    first = worker.load()
    spec = ModelSpec.model_validate_json(first.spec)
    try:
        from workers.engines.registry import build

        with kept_for_good():
            engine = build(spec)
        info = engine.load()
    except ConfigError as error:
        worker.report(Refused(error.detail))
        os._exit(3)
    except Exception as error:  # noqa: BLE001 - a host that cannot load says why, whatever it was
        _log.exception("loading %s failed", spec.name)
        worker.report(Refused(f"loading failed: {type(error).__name__}: {error}"))
        os._exit(4)
    remember = _recall(engine, spec, info, first.ceilings)
    loop = Loop(
        Watched(engine, progress),
        worker.commands,
        worker.report,
        continues=info.continues,
        remember=remember,
        max_output=first.max_output,
    )
    worker.loop = loop
    worker.report(_ready(info, (time.perf_counter() - started) * 1000))
    try:
        loop.run()
    except DeviceLost as lost:
        _log.exception("the device of %s is gone", spec.name)
        worker.report(Lost(str(lost), lost.blames, lost.ticket))
        os._exit(DEVICE_LOST)
    os._exit(0)


def _inherited(ours: int, page: int) -> tuple[Channel[Report, Command], Progress]:
    """Our ends of what is between us and the worker, kept from programs that the model may start."""
    os.set_inheritable(ours, False)
    progress = Progress(page)
    os.close(page)
    progress.sign()
    return to_worker(socket.socket(fileno=ours)), progress


def _prepare(settings: Settings) -> None:
    """Import the engine of the model that the environment names, while the worker still imports its own."""
    if settings.model is None:
        return
    from workers.engines.registry import prepare

    # What is wrong with the catalogue, `Load` will tell.
    with suppress(JobsError), kept_for_good():
        prepare(settings.catalog.get(settings.model))


def _recall(
    engine: Engine, spec: ModelSpec, info: EngineInfo, file: str
) -> Callable[[Budget], None]:
    """Start the engine's budget where an earlier host left it. Returns what keeps it."""
    budget: Budget | None = getattr(engine, "budget", None)
    if budget is None or not file:
        return lambda _budget: None
    sizes = spec.limits.model_dump(include={"max_prompt_tokens", "max_new_tokens"})
    sizes["max_size"] = spec.batch.max_size
    ceilings = Ceilings(Path(file), shape_key(device_identity(info.device), info.dtype, sizes))
    ceilings.recall(budget)
    return ceilings.remember


def _ready(info: EngineInfo, load_ms: float) -> Ready:
    return Ready(
        info.capacity,
        info.continues,
        info.device,
        info.dtype,
        dict(info.details),
        load_ms,
        {name: dict(said) for name, said in info.adapters.items()},
        dict(info.refused),
    )


if __name__ == "__main__":
    main()
