"""What a job costs: processor time by group of processes, and Redis commands."""

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import msgspec
import psutil
from redis import Redis

from bench.subjects import Serving

OURS = frozenset({"info"})
"""Commands that the accounting itself sends."""


class Command(msgspec.Struct, frozen=True):
    """How often a Redis command ran, in scripts too, and the microseconds that Redis spent in it.

    A script's time holds the time of the commands in it.
    """

    calls: float
    microseconds: float


class Counters(msgspec.Struct, frozen=True):
    """All counters at one moment: processor seconds by group and process id, Redis' own statistics."""

    cpu: dict[str, dict[int, float]]
    commands: dict[str, Command]


class Cost(msgspec.Struct, frozen=True):
    """What one job cost: processor milliseconds by group, Redis commands by name."""

    cpu_ms: dict[str, float]
    commands: dict[str, Command]


def read(serving: Serving, redis: "Redis | None") -> Counters:
    """The counters now; no commands without a Redis."""
    cpu = {name: _cpu(members()) for name, members in serving.groups.items()}
    info: Mapping[str, Any] = redis.info("commandstats") if redis is not None else {}
    commands = {
        name.removeprefix("cmdstat_"): Command(row["calls"], row["usec"])
        for name, row in info.items()
        if name.removeprefix("cmdstat_") not in OURS
    }
    return Counters(cpu, commands)


def cost(before: Counters, after: Counters, jobs: int) -> Cost:
    """What each of `jobs` cost between two moments; nothing where there were none."""
    if jobs == 0:
        return Cost({}, {})
    cpu_ms = {
        name: sum(used - before.cpu[name].get(pid, 0.0) for pid, used in processes.items())
        * (1000 / jobs)
        for name, processes in after.cpu.items()
    }
    none = Command(0, 0)
    commands = {}
    for name, now in after.commands.items():
        then = before.commands.get(name, none)
        if now.calls > then.calls:
            commands[name] = Command(
                (now.calls - then.calls) / jobs, (now.microseconds - then.microseconds) / jobs
            )
    return Cost(cpu_ms, commands)


def _cpu(processes: list[psutil.Process]) -> dict[int, float]:
    seconds = {}
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            times = process.cpu_times()
            seconds[process.pid] = times.user + times.system
    return seconds
