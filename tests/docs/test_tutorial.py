"""`docs/tutorial.md` does what it says: every command runs, in order, and prints what the page shows.

`docs/clients.md` talks to the tutorial's server, so it is followed before that one stops.
"""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.conftest import PATIENCE, eventually, redis_binary, require
from tests.docs.pages import ROOT, Block, Step, blocks, shows, steps
from tests.ports import free_port

TUTORIAL = ROOT / "docs" / "tutorial.md"
CLIENTS = ROOT / "docs" / "clients.md"
OURS = re.compile(r"TRUTHGPT_|REDIS_|WEBHOOK_|MAKE|GUNICORN_")
ENDED = re.compile(r"^ended (\d+)$", re.MULTILINE)


class Reader:
    """Someone with two terminals who follows the page: `up` runs in the first, all else in the second."""

    def __init__(self, folder: Path) -> None:
        self._port = free_port()
        self._checkout = checkout(folder / "checkout")
        self._env = {
            **{name: value for name, value in os.environ.items() if not OURS.match(name)},
            "HOME": str(folder),
            "PYTHONPATH": str(ROOT),
            "PORT": str(self._port),
            "TRUTHGPT_URL": f"http://127.0.0.1:{self._port}",
            "FLOWER_PORT": str(free_port()),
            "ENABLE_STRUCTURED_LOGGING": "false",
        }
        self._log = folder / "server.log"
        self._server: subprocess.Popen[bytes] | None = None
        self._shell = subprocess.Popen(
            ["bash"],
            cwd=self._checkout,
            env=self._env,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.run("set -o pipefail")

    def follow(self, block: Block) -> None:
        if block.title is not None:
            (Path(self.run("pwd").strip()) / block.title).write_text(self._here(block.text))
        elif block.language == "console":
            for step in steps(block):
                self._do(step)

    def _do(self, step: Step) -> None:
        if step.command == "^C":
            self._interrupt()
        elif step.command.startswith("truthgpt up"):
            self._start(step)
        else:
            self._compare(step)

    def _compare(self, step: Step) -> None:
        # A second terminal begins in the checkout, as the first one did.
        if step.command.startswith(". .venv"):
            self.run(f"cd {self._checkout}")
        printed = self.run(self._here(step.command))
        shown = self._here(step.shown) or "…"
        assert shows(shown, printed), f"{step.command}\nprinted:\n{printed}"

    def _start(self, step: Step) -> None:
        with self._log.open("wb") as log:
            self._server = subprocess.Popen(
                ["bash", "-c", f"exec {step.command}"],
                cwd=self.run("pwd").strip(),
                env={**self._env, "PATH": f"{self._checkout}/.venv/bin:{self._env['PATH']}"},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        eventually(lambda: self._serves(step), 90, f"{step.command}; see {self._log}")

    def _serves(self, step: Step) -> bool:
        assert self._server is not None and self._server.poll() is None, self._log.read_text()
        return shows(self._here(step.shown), self._log.read_text())

    def _interrupt(self) -> None:
        assert self._server is not None
        family = psutil.Process(self._server.pid).children(recursive=True)
        self._server.send_signal(signal.SIGINT)
        self._server.wait(timeout=PATIENCE)
        _, alive = psutil.wait_procs(family, timeout=PATIENCE)
        assert not alive, f"left behind: {alive}"
        self._server = None

    def run(self, command: str) -> str:
        """What a command prints in the second terminal. It must succeed."""
        assert self._shell.stdin is not None and self._shell.stdout is not None
        self._shell.stdin.write(f"{command}\nprintf '\\nended %s\\n' $?\n")
        self._shell.stdin.flush()
        lines = []
        for line in self._shell.stdout:
            if ended := ENDED.match(line):
                assert ended[1] == "0", f"{command}: exit status {ended[1]}\n{''.join(lines)}"
                break
            lines.append(line)
        return "".join(lines)

    def _here(self, text: str) -> str:
        return text.replace("8080", str(self._port))

    def close(self) -> None:
        if self._server is not None:
            self._interrupt()
        self._shell.kill()
        self._shell.communicate()

    @property
    def serving(self) -> bool:
        return self._server is not None


def checkout(folder: Path) -> Path:
    """A checkout that is set up already, as that is which these tests run in: nothing is installed."""
    environment = folder / ".venv"
    environment.mkdir(parents=True)
    (environment / "bin").symlink_to(Path(sys.executable).parent)
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        (folder / name).symlink_to(ROOT / name)
    (environment / ".ready").touch()
    return folder


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[Reader]:
    require(redis_binary(), "redis-server")
    reader = Reader(tmp_path)
    yield reader
    reader.close()


@pytest.mark.timeout(240)
def test_every_command_of_the_tutorial_runs_and_prints_what_it_shows(reader: Reader) -> None:
    *lessons, stop = blocks(TUTORIAL.read_text("utf-8"))
    for block in [*lessons, *blocks(CLIENTS.read_text("utf-8")), stop]:
        reader.follow(block)

    assert not reader.serving, "the tutorial ends with its server stopped"
