"""Environments of the peers' own, because their pins and ours do not go together.

Each is a venv made from `bench/peers/requirements/<name>.txt`, which pins all that goes into it. It is made
where it is missing, and anew when the pins or the interpreter change.
"""

import fcntl
import hashlib
import os
import platform
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.programs import REPOSITORY

REQUIREMENTS = REPOSITORY / "bench" / "peers" / "requirements"
ENVIRONMENTS = REPOSITORY / ".bench" / "environments"
SEES_OURS = frozenset({"infinity", "litserve"})
"""Environments that find our packages behind their own: torch is not installed twice."""
MAKE_SECONDS = 600.0
SHOWN_LINES = 5
READY = "ready"
"""The file that is written last: a folder without it is of a run that was ended early."""


class EnvironmentFailed(Exception):
    """An environment could not be made; the message ends with what the command said."""


def python_of(
    name: str,
    *,
    requirements: Path = REQUIREMENTS,
    folder: Path = ENVIRONMENTS,
    seconds: float = MAKE_SECONDS,
    compiled: bool = True,
) -> Path:
    """The interpreter of environment `name`, made now if it is missing. Raises `EnvironmentFailed`.

    `seconds`: for the venv and for pip, each. `compiled`: every module is compiled now, which takes longer
    than all else, rather than when it is first imported.
    """
    pins = requirements / f"{name}.txt"
    key = _key(pins.read_bytes(), ours=name in SEES_OURS)
    made = folder / f"{name}-{key}"
    python = made / "bin" / "python"
    folder.mkdir(parents=True, exist_ok=True)
    with _locked(folder / f"{name}.lock"):
        if not (made / READY).exists():
            for stale in folder.glob(f"{name}-????????????"):
                shutil.rmtree(stale)
            print(f"making the environment {made.name}", flush=True)
            _run(name, seconds, "venv", "--without-pip", str(made))
            install = ["--python", str(made), "install", "--no-deps", "-r", str(pins)]
            if not compiled:
                install.append("--no-compile")
            _run(name, seconds, "pip", *install)
            if name in SEES_OURS:
                _append_ours(made)
            (made / READY).touch()
    return python


def _key(pins: bytes, *, ours: bool) -> str:
    parts = [pins, platform.python_version().encode(), sys.prefix.encode() if ours else b""]
    return hashlib.sha256(b"\0".join(parts)).hexdigest()[:12]


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Two runs never make one environment at a time."""
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _run(name: str, seconds: float, module: str, *arguments: str) -> None:
    # What PYTHONPATH holds would count as installed, and be missing in a run without it.
    env = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    try:
        subprocess.run(
            [sys.executable, "-m", module, *arguments],
            check=True,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=seconds,
        )
    except subprocess.TimeoutExpired:
        reason = f"not done in {seconds:g} s"
    except subprocess.CalledProcessError as error:
        said = error.stdout.decode("utf-8", "replace").splitlines()
        reason = "\n".join(said[-SHOWN_LINES:])
    else:
        return
    raise EnvironmentFailed(f"environment {name}: {module} failed: {reason}")


def _append_ours(made: Path) -> None:
    """A .pth file puts our packages at the end of the path, so that the environment's own win."""
    own = next(made.glob("lib/python*/site-packages"))
    (own / "ours.pth").write_text(sysconfig.get_path("purelib") + "\n", "utf-8")
