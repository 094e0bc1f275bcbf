"""Where and with what was measured."""

import os
import platform
import subprocess
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import msgspec
import psutil

from bench.programs import REPOSITORY
from shared.embedded_redis.binaries import find_binary

PACKAGES = ("celery", "kombu", "redis", "hiredis", "flask", "werkzeug", "gunicorn", "gevent")


class Machine(msgspec.Struct, frozen=True):
    """`load` is the system's one-minute load average before the first turn; 0 is a quiet machine."""

    cpu: str
    cores: int
    memory_gib: float
    system: str
    python: str
    redis: str
    packages: dict[str, str]
    commit: str
    load: float


def look_around(packages: Sequence[str] = PACKAGES) -> Machine:
    """This machine now, with the versions of `packages`."""
    return Machine(
        cpu=_cpu_model(),
        cores=len(psutil.Process().cpu_affinity() or ())
        if _has_affinity()
        else os.cpu_count() or 1,
        memory_gib=round(psutil.virtual_memory().total / 2**30, 1),
        system=f"{platform.system()} {platform.release()}",
        python=f"{platform.python_implementation()} {platform.python_version()}",
        redis=".".join(map(str, find_binary()[1])),
        packages=_versions(packages),
        commit=commit(),
        load=round(os.getloadavg()[0], 2),
    )


def machine_lines(machine: Machine) -> str:
    """Where and with what, in three lines."""
    packages = ", ".join(f"{name} {number}" for name, number in machine.packages.items())
    return "\n".join(
        (
            f"- {machine.cpu}, {machine.cores} cores, {machine.memory_gib} GiB, {machine.system}",
            f"- {machine.python}, Redis {machine.redis}, {packages}",
            f"- commit {machine.commit}, load average before the first turn {machine.load}",
        )
    )


def _has_affinity() -> bool:
    return hasattr(psutil.Process, "cpu_affinity")


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _versions(packages: Sequence[str]) -> dict[str, str]:
    found = {}
    for name in packages:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "missing"
    return found


def commit() -> str:
    """The commit that is checked out, with a `+` when files differ from it."""
    git = ("git", "-C", str(REPOSITORY))
    try:
        head = subprocess.run([*git, "rev-parse", "--short=12", "HEAD"], capture_output=True)
        changed = subprocess.run([*git, "status", "--porcelain"], capture_output=True)
    except OSError:
        return "unknown"
    name = head.stdout.decode().strip() or "unknown"
    return f"{name}+" if changed.stdout.strip() else name
