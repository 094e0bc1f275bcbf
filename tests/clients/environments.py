"""Environments of the clients' own, made beside the start of the server and kept for later runs.

All Python clients share a venv of `requirements/clients.txt` (see `bench/environments.py`); a node client has
the packages of `node/NAME/package-lock.json`. What cannot be had (no network, no node) skips the tests with
one line, and fails them in CI.
"""

import fcntl
import hashlib
import shutil
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from bench.environments import ENVIRONMENTS, EnvironmentFailed, python_of
from tests.conftest import IN_CI

HERE = Path(__file__).parent
INSTALL_SECONDS = 300
READY = "ready"


def python_environment() -> Path:
    """The interpreter of the Python clients' environment. Skips the test where it cannot be made."""
    try:
        return python_of("clients", requirements=HERE / "requirements", compiled=False)
    except EnvironmentFailed as failure:
        return _missing(f"the environment of Python clients cannot be made: {failure}")


def node_environment(name: str) -> Path:
    """The folder with a node client's `node_modules`. Skips the test where it cannot be made."""
    if shutil.which("npm") is None:
        return _missing(f"{name} needs node and npm")
    lock = (HERE / "node" / name / "package-lock.json").read_bytes()
    made = ENVIRONMENTS / f"node-{name}-{hashlib.sha256(lock).hexdigest()[:12]}"
    ENVIRONMENTS.mkdir(parents=True, exist_ok=True)
    with (ENVIRONMENTS / f"node-{name}.lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        if not (made / READY).exists():
            for stale in ENVIRONMENTS.glob(f"node-{name}-????????????"):
                shutil.rmtree(stale)
            shutil.copytree(HERE / "node" / name, made)
            installed = run(["npm", "ci", "--no-audit", "--no-fund"], made, INSTALL_SECONDS)
            if installed.returncode != 0:
                return _missing(f"npm cannot install {name}: {installed.stdout[-500:]}")
            (made / READY).touch()
    return made


@contextmanager
def making(*node: str) -> Iterator[None]:
    """Make Python's and these node environments while the body runs, and end with the last of them.

    One that cannot be made says so where a test asks for it.
    """
    with ThreadPoolExecutor() as threads:
        threads.submit(python_environment)
        for name in node:
            threads.submit(node_environment, name)
        yield


def run(
    command: list[str], folder: Path, seconds: float = 120, **env: str
) -> "subprocess.CompletedProcess[str]":
    """A command in `folder`; its stderr is in `stdout`. `env` is added to a plain environment."""
    return subprocess.run(
        command,
        cwd=folder,
        env={"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": str(folder), **env},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=seconds,
    )


def _missing(why: str) -> Path:
    if IN_CI:
        pytest.fail(why)
    pytest.skip(f"NOT TESTED: {why}")
