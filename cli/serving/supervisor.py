"""Keeps a set of processes running, prints their output, and ends them in order.

Each process is a honcho `Process`, printed by honcho's `Printer`. Not honcho's `Manager`: it ends
everything as soon as one process stops, and five seconds are too few to drain a worker.
"""

import contextlib
import os
import queue
import shlex
import signal
import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from types import FrameType
from typing import Any

import click
import psutil
from honcho.colour import get_colours
from honcho.printer import Message, Printer
from honcho.process import Process

from cli.serving.lifeline import Lifeline, signal_quietly
from cli.terminal.lines import JsonLines

FIRST_DELAY = 1.0
LONGEST_DELAY = 30.0
STEADY = 60.0
"""A process that lived this many seconds was well; its next restart comes quickly again."""
TICK = 0.25
TWICE = 0.5
"""Wrappers such as `make` or `uv run` may pass one Ctrl-C on a second time within this many seconds."""
UNKILLABLE = 5.0
"""Seconds after SIGKILL at which a process that is stuck in the kernel is given up."""
SYSTEM = "system"
HELD_LINES = 2000
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@dataclass(frozen=True, slots=True)
class Spec:
    """A process to keep running: its name in the output, and its command line."""

    name: str
    command: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Block:
    """Something to say in two ways: `text` for people, `event` with its `facts` for a log."""

    text: str
    event: str
    facts: Mapping[str, Any]


class _Child:
    """One process through all its lives. Only the loop's thread touches it."""

    def __init__(self, spec: Spec, colour: str) -> None:
        self.spec = spec
        self.colour = colour
        self.running = False
        self.pid: int | None = None
        self.started = 0.0
        self.delay = FIRST_DELAY
        self.due: float | None = 0.0
        """When to start (again); None while it runs."""


class Supervisor:
    """`run` blocks; `say`, `show`, `hold`, `release` and `stop` may be called from any thread."""

    def __init__(
        self,
        specs: Sequence[Spec],
        *,
        env: Mapping[str, str],
        drain: float,
        printer: Any = None,
        lifeline: Lifeline | None = None,
    ) -> None:
        """`drain` is in seconds: what a process has between SIGTERM and SIGKILL.

        `printer` is honcho's, or `JsonLines`.
        """
        colours = get_colours()
        self._children = {spec.name: _Child(spec, next(colours)) for spec in specs}
        self._env = dict(env)
        self._drain = drain
        self._lifeline = lifeline
        self._printer = printer if printer is not None else Printer()
        self._printer.width = max(len(name) for name in (SYSTEM, *self._children))
        # SimpleQueue, because a signal handler may put into it while the loop is taking from it.
        self._events: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._held: deque[Any] | None = None
        self._stopping_since: float | None = None
        self._killed_at: float | None = None
        self._next_sweep = 0.0

    def say(self, line: str) -> None:
        """Print a line of our own among those of the processes."""
        self._put("line", line)

    def show(self, block: Block) -> None:
        """Print a block of text as it is, without a prefix; a program gets its facts instead."""
        self._put("show", block)

    def hold(self) -> None:
        """Keep what the processes say for later, while somebody else writes to the terminal."""
        self._put("hold")

    def release(self) -> None:
        """Print what was held, and go on printing."""
        self._put("release")

    def stop(self) -> None:
        """End all processes in order; `run` returns when they have ended."""
        self._put("quit")

    def run(self) -> None:
        """Start the processes and keep them running until `stop`, SIGINT, SIGTERM or SIGHUP.

        The first signal drains, another one kills at once.
        """
        handlers = {signum: signal.signal(signum, self._on_signal) for signum in SIGNALS}
        try:
            while not self._ended():
                self._start_those_due()
                self._take_message()
                self._sweep_the_dead()
                self._kill_those_late()
        finally:
            self._kill()
            self._release()
            for signum, handler in handlers.items():
                signal.signal(signum, handler)

    def _put(self, kind: str, data: Any = None) -> None:
        self._events.put(Message(kind, data, datetime.now(), SYSTEM, None))

    def _on_signal(self, signum: int, _frame: FrameType | None) -> None:
        self._put("signal", signal.Signals(signum).name)

    def _ended(self) -> bool:
        if self._killed_at is not None and time.monotonic() - self._killed_at > UNKILLABLE:
            return True
        if self._stopping_since is None or any(child.running for child in self._children.values()):
            return False
        return self._events.empty()

    def _start_those_due(self) -> None:
        if self._stopping_since is not None:
            return
        now = time.monotonic()
        for child in self._children.values():
            if child.due is not None and now >= child.due:
                child.due, child.running, child.started = None, True, now
                threading.Thread(target=self._live, args=(child,), daemon=True).start()

    def _live(self, child: _Child) -> None:
        """One life of a process, in a thread of its own: start it, read its output, wait for its end."""
        spec = child.spec
        # `exec`: the shell that honcho starts becomes the process, so that signals reach it.
        command = f"exec {shlex.join(spec.command)} </dev/null"
        process = Process(command, name=spec.name, colour=child.colour, env=self._env)
        try:
            process.run(self._events)
        except OSError as error:
            self._events.put(
                Message("stop", {"returncode": error.strerror}, datetime.now(), spec.name, None)
            )

    def _take_message(self) -> None:
        try:
            message = self._events.get(timeout=TICK)
        except queue.Empty:
            return
        match message.type:
            case "line" if not message.data.strip():
                pass
            case "line" | "show":
                self._print(message)
            case "start":
                self._on_start(self._children[message.name], message.data["pid"])
            case "stop":
                self._on_stop(self._children[message.name], message.data["returncode"])
            case "hold":
                self._held = deque(maxlen=HELD_LINES) if self._held is None else self._held
            case "release":
                self._release()
            case "quit":
                self._stop("stopping")
            case "signal":
                self._on_interrupt(message.data)

    def _on_start(self, child: _Child, pid: int) -> None:
        child.pid = pid
        if self._lifeline is not None:
            self._lifeline.watch(pid)
        self._note(f"{child.spec.name} started (pid {pid})")
        if self._killed_at is not None:
            signal_quietly(os.killpg, pid, signal.SIGKILL)
        elif self._stopping_since is not None:
            signal_quietly(os.kill, pid, signal.SIGTERM)

    def _on_stop(self, child: _Child, code: int | str) -> None:
        if child.pid is not None:
            # What the process started and left behind, such as a worker's engine host.
            signal_quietly(os.killpg, child.pid, signal.SIGKILL)
            if self._lifeline is not None:
                self._lifeline.forget(child.pid)
        child.pid, child.running = None, False
        if self._stopping_since is not None:
            self._note(f"{child.spec.name} ended ({_ending(code)})")
            return
        if time.monotonic() - child.started >= STEADY:
            child.delay = FIRST_DELAY
        child.due = time.monotonic() + child.delay
        self._note(f"{child.spec.name} ended ({_ending(code)}); starts again in {child.delay:g} s")
        child.delay = min(LONGEST_DELAY, child.delay * 2)

    def _on_interrupt(self, name: str) -> None:
        if self._stopping_since is None:
            self._stop(f"{name}: draining, up to {self._drain:g} s; once more kills at once")
        elif time.monotonic() - self._stopping_since > TWICE and self._killed_at is None:
            self._note(f"{name} again: killing")
            self._kill()

    def _stop(self, why: str) -> None:
        if self._stopping_since is not None:
            return
        self._release()
        self._note(why)
        self._stopping_since = time.monotonic()
        for child in self._children.values():
            if child.pid is not None:
                # The leader alone: it knows in which order to end what it started.
                signal_quietly(os.kill, child.pid, signal.SIGTERM)

    def _kill_those_late(self) -> None:
        if self._stopping_since is None or self._killed_at is not None:
            return
        if time.monotonic() - self._stopping_since >= self._drain:
            late = [name for name, child in self._children.items() if child.running]
            if late:
                self._note(f"killing {', '.join(late)}: not ended after {self._drain:g} s")
            self._kill()

    def _kill(self) -> None:
        self._killed_at = self._killed_at or time.monotonic()
        for child in self._children.values():
            if child.pid is not None:
                signal_quietly(os.killpg, child.pid, signal.SIGKILL)

    def _sweep_the_dead(self) -> None:
        """A dead process' children hold its output open, and honcho would wait for the output's end."""
        if time.monotonic() < self._next_sweep:
            return
        self._next_sweep = time.monotonic() + TICK
        for child in self._children.values():
            if child.pid is not None:
                with contextlib.suppress(psutil.Error):
                    if psutil.Process(child.pid).status() == psutil.STATUS_ZOMBIE:
                        signal_quietly(os.killpg, child.pid, signal.SIGKILL)

    def _note(self, line: str) -> None:
        self._print(Message("line", line, datetime.now(), SYSTEM, None))

    def _print(self, message: Any) -> None:
        if self._held is not None:
            self._held.append(message)
            return
        # A terminal that is gone, or a reader of our pipe, is no reason to drop what we keep running.
        with contextlib.suppress(OSError):
            if message.type == "show" and isinstance(self._printer, JsonLines):
                self._printer.show(message, message.data.event, message.data.facts)
            elif message.type == "show":
                click.echo(message.data.text, file=self._printer.output)
            else:
                self._printer.write(message)

    def _release(self) -> None:
        held, self._held = self._held, None
        for message in held or ():
            self._print(message)


def _ending(code: int | str) -> str:
    if isinstance(code, str):
        return code
    if code < 0:
        return f"by signal: {signal.strsignal(-code) or -code}"
    return f"exit code {code}"
