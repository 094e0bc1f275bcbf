"""`truthgpt top`: a live view of a server's queues and workers, over its HTTP API alone."""

import contextlib
import os
import select
import signal
import sys
import termios
import threading
import time
import tty
from collections.abc import Callable, Iterator

import click
from rich.console import Console
from rich.live import Live

from cli.login import Login, pass_login
from cli.main import in_one_line
from cli.terminal.frame import Look, frame
from cli.terminal.pace import Paces
from cli.terminal.screen import console
from client import Client, ClientError

TICK = 0.25
"""Seconds between looks at the keyboard; a frame is drawn as often, so it follows the terminal's size."""
PIPE_LINES = 1000
TIMEOUT = 5.0
END = "\x04"
QUIT = ("q", "Q", END)


class Watcher:
    """Asks the server again and again, in a thread of its own, so that keys are heard meanwhile."""

    def __init__(self, client: Client, interval: float) -> None:
        """`interval` is in seconds."""
        self._client = client
        self._interval = interval
        self._paces = Paces()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="top", daemon=True)
        self.look: Look | None = None
        self.trouble = ""

    def __enter__(self) -> "Watcher":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()

    def once(self) -> Look:
        """Ask now. Raises `ClientError`."""
        stats = self._client.stats()
        models = [model.raw for model in self._client.models()]
        try:
            return Look(models, stats, self._paces.add(stats))
        except (LookupError, TypeError) as error:
            raise ClientError(f"{self._client.base_url} is of another version than this") from error

    def _run(self) -> None:
        while True:
            try:
                self.look, self.trouble = self.once(), ""
            except ClientError as error:
                self.trouble = f"{in_one_line(error)}. Trying again every {self._interval:g} s."
            if self._over.wait(self._interval):
                return


@click.command()
@click.option("--once", is_flag=True, help="Print one frame and end, as into a pipe.")
@click.option(
    "--interval",
    type=click.FloatRange(0.5, 3600),
    default=2.0,
    show_default=True,
    help="Seconds between two looks.",
)
@pass_login
def top(login: Login, once: bool, interval: float) -> None:
    """Watch queues, workers and breakers live; q ends it."""
    screen = console()
    with login.client(timeout=TIMEOUT, retry_for=0.0) as client:
        watcher = Watcher(client, interval)
        if once or not screen.is_terminal:
            look = watcher.once()
            height = screen.height if screen.is_terminal else PIPE_LINES
            screen.print(frame(look, url=client.base_url, width=screen.width, height=height))
            return
        # Ctrl-C ends it as q does.
        with contextlib.suppress(KeyboardInterrupt):
            _watch(watcher, screen, client.base_url)


@contextlib.contextmanager
def _interrupt() -> Iterator[threading.Event]:
    """Set by Ctrl-C. As an exception it would be lost where it met a finalizer, which swallows all."""
    interrupted = threading.Event()
    before = signal.signal(signal.SIGINT, lambda *_: interrupted.set())
    try:
        yield interrupted
    finally:
        signal.signal(signal.SIGINT, before)


def _watch(watcher: Watcher, screen: Console, url: str) -> None:
    """Frames until a key says that it is enough."""
    live = Live(console=screen, screen=True, auto_refresh=False)
    with _interrupt() as interrupted, watcher, _keyboard() as pressed, live:
        while pressed() not in QUIT and not interrupted.is_set():
            shown = frame(
                watcher.look,
                url=url,
                width=screen.width,
                height=screen.height,
                trouble=watcher.trouble,
            )
            live.update(shown, refresh=True)


def _nothing() -> str:
    time.sleep(TICK)
    return ""


@contextlib.contextmanager
def _keyboard() -> Iterator[Callable[[], str]]:
    """A call that waits up to `TICK` for a key and returns it, or ''; nothing is echoed meanwhile."""
    if not sys.stdin.isatty():
        yield _nothing
        return
    keyboard = sys.stdin.fileno()

    def pressed() -> str:
        ready, _, _ = select.select([keyboard], [], [], TICK)
        return os.read(keyboard, 1).decode("ascii", "ignore") or END if ready else ""

    before = termios.tcgetattr(keyboard)
    try:
        tty.setcbreak(keyboard)
        yield pressed
    finally:
        termios.tcsetattr(keyboard, termios.TCSADRAIN, before)
