"""`truthgpt top` as a command: one frame into a pipe, a live view in a terminal."""

import os
import pty
import re
import select
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from cli.terminal.top import _interrupt
from tests.cli.terminal.test_frame import MODELS, STATS
from tests.cli.test_jobs import run
from tests.client.conftest import Reply, ScriptedServer, answer, problem

ROW = {"window_seconds": 310.0, "tokens": 0, "throughput": 0.4, "tokens_per_second": 24.3}
ENTERED, LEFT = "\x1b[?1049h", "\x1b[?1049l"
COLOUR = re.compile(r"\x1b\[[\d;]*3[1-7]m")


@pytest.fixture
def replies() -> list[Reply]:
    stats = {**STATS, "models": [{**row, **ROW} for row in STATS["models"]]}
    models = [{"engine": "echo", **row} for row in MODELS]
    return [answer(stats), answer({"object": "list", "data": models})]


def test_into_a_pipe_goes_one_frame(server: ScriptedServer, replies: list[Reply]) -> None:
    for options in ([], ["--once"]):
        server.replies = list(replies)
        shown = run(server, "top", *options)
        assert shown.exit_code == 0
        assert shown.stdout.startswith(f"truthgpt top  {server.url}  paces of the last 310 s\n")
        assert re.search(
            r"^demo-llama +busy +279 +10 s +3 min +4 +0\.40 +24\.3 ", shown.stdout, re.M
        )
        assert "\x1b" not in shown.stdout
    assert [seen.path for seen in server.seen[:2]] == ["/v1/stats", "/v1/models"]


def test_once_without_a_server_is_one_line(server: ScriptedServer) -> None:
    server.replies = [problem(401, "unauthorized")]
    refused = run(server, "top", "--once")
    assert refused.exit_code == 1
    assert "the server refused the token" in refused.stderr and refused.stderr.count("\n") == 1


def test_an_answer_of_another_version_is_said(server: ScriptedServer) -> None:
    server.replies = [answer({"models": [{}]}), answer({"data": []})]
    refused = run(server, "top", "--once")
    assert refused.exit_code == 1 and "another version" in refused.stderr


class Terminal:
    """`truthgpt top` in a terminal of its own."""

    def __init__(self, url: str, **env: str) -> None:
        self._ours, theirs = pty.openpty()
        termios.tcsetwinsize(theirs, (30, 130))
        unset = ("NO_COLOR", "FORCE_COLOR", "COLUMNS", "LINES")
        clean = {name: value for name, value in os.environ.items() if name not in unset}
        clean |= {"TERM": "xterm-256color", "TRUTHGPT_URL": url, "TRUTHGPT_API_TOKEN": "t"}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "cli", "top", "--interval", "0.5"],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            env={**clean, **env},
        )
        os.close(theirs)
        self.text = ""

    def until(self, what: str, seconds: float = 30.0) -> None:
        """Read until `what` is on it."""
        deadline = time.monotonic() + seconds
        while what not in self.text:
            left = deadline - time.monotonic()
            assert left > 0, f"no {what!r} in {self.text[-2000:]!r}"
            if select.select([self._ours], [], [], left)[0]:
                self.text += os.read(self._ours, 65536).decode("utf-8", "replace")

    def type(self, keys: str) -> None:
        os.write(self._ours, keys.encode())

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._ours)


@contextmanager
def terminal(url: str, **env: str) -> Iterator[Terminal]:
    made = Terminal(url, **env)
    try:
        yield made
    finally:
        made.close()


def test_a_live_view_until_q(server: ScriptedServer, replies: list[Reply]) -> None:
    server.replies = replies * 200
    with terminal(server.url) as screen:
        screen.until("demo-llama")
        assert ENTERED in screen.text and COLOUR.search(screen.text)
        screen.type("q")
        screen.until(LEFT)
        assert screen.process.wait(20) == 0


def test_a_server_that_is_away_is_asked_again(server: ScriptedServer, replies: list[Reply]) -> None:
    server.replies = [problem(503, "redis_unavailable", "Redis did not answer."), *replies * 200]
    with terminal(server.url, NO_COLOR="1") as screen:
        screen.until("Redis did not answer.")
        screen.until("Trying again every 0.5 s.")
        screen.until("demo-llama")
        assert not COLOUR.search(screen.text)
        screen.process.send_signal(signal.SIGINT)
        screen.until(LEFT)
        assert screen.process.wait(20) == 0
        assert "Traceback" not in screen.text and "Aborted" not in screen.text


class Finalizer:
    """Swallows the exception that comes while it runs, as every finalizer does."""

    def __del__(self) -> None:
        signal.raise_signal(signal.SIGINT)


def test_ctrl_c_is_not_lost_where_exceptions_are() -> None:
    before = signal.getsignal(signal.SIGINT)  # a shell's background job starts with it ignored
    with _interrupt() as interrupted:
        Finalizer()
        assert interrupted.is_set()
    assert signal.getsignal(signal.SIGINT) is before
