"""The numbered scenarios, how large they are, and how they are run."""

import asyncio
import os
import platform
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from tests.chaos import (
    clocks,
    deaths,
    dialects,
    doorbells,
    failover,
    grammars,
    network,
    outages,
    readers,
    soak,
)
from tests.chaos.arena import Arena, Size, Skipped
from tests.chaos.row import Row

Scenario = Callable[[Arena], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Case:
    """`full` is the issue's size; `quick` is what a minute allows, None where that says nothing."""

    number: int
    title: str
    run: Scenario
    full: Size
    quick: Size | None = None

    def scaled(self, factor: float) -> Size:
        """A share of the full size; at least one of everything."""
        full = self.full
        return Size(
            max(1, round(full.n * factor)),
            max(1, round(full.faults * factor)) if full.faults else 0,
            full.seconds * min(1.0, max(0.1, factor)),
        )


# fmt: off
CASES = (
    Case(1, "kill -9 workers, hosts", deaths.kill_workers_and_hosts, Size(10_000, 100), Size(200, 4)),
    Case(2, "kill at named points", deaths.kill_at_named_points, Size(10_000, 200)),
    Case(3, "Redis kill -9, AOF", outages.redis_killed, Size(10_000, 20), Size(200, 2)),
    Case(4, "CLIENT KILL all", outages.connections_killed, Size(10_000, 200), Size(200, 8)),
    Case(5, "half open, black hole", network.partitions, Size(1_000, 10, 60)),
    Case(6, "SIGSTOP past the lease", deaths.freeze_past_the_lease, Size(1_000, 100), Size(100, 2)),
    Case(7, "clocks an hour off", clocks.wrong_clocks, Size(2_000, 2), Size(300, 2)),
    Case(8, "disk full, memory full", outages.redis_full, Size(1_000, 10, 5)),
    Case(9, "readers cut at random", readers.many_readers, Size(1_000, 20), Size(40, 5)),
    Case(10, "readers at 1 B/s", readers.slow_readers, Size(3_000, 100)),
    Case(11, "poison job", deaths.poison_among_good_jobs, Size(501, 1), Size(60, 1)),
    Case(12, "rolling SIGTERM", deaths.rolling_sigterm, Size(1_000, 50), Size(100, 2)),
    Case(13, "short visibility", doorbells.short_visibility, Size(100, 0, 60)),
    Case(14, "one key, 100 at once", doorbells.one_key_at_once, Size(50, 0), Size(10, 0)),
    Case(15, "API deaths, lost rings", doorbells.api_killed_and_rings_lost, Size(500, 500), Size(20, 2)),
    Case(16, "soak", soak.soak, Size(1, 0, 1800)),
    Case(17, "Sentinel failover", failover.sentinel_failover, Size(2_000, 10)),
    Case(18, "JSON, calls, hosts killed", grammars.held_texts, Size(200, 50), Size(16, 3)),
    Case(19, "responses taken up", dialects.responses_taken_up, Size(200, 100)),
    Case(20, "batches answered once", dialects.batches_answered_once, Size(10_000, 50)),
)
# fmt: on


def run(cases: Iterable[tuple[Case, Size]], seed: int, folder: Path | None = None) -> list[Row]:
    """Run cases one after the other. Histories and logs stay in `folder`."""
    folder = folder or Path(tempfile.mkdtemp(prefix="chaos-"))
    rows = []
    for case, size in cases:
        place = folder / f"{case.number:02}"
        place.mkdir(parents=True)
        rows.append(asyncio.run(_run(case, size, place, seed)))
    return rows


async def _run(case: Case, size: Size, folder: Path, seed: int) -> Row:
    began = time.monotonic()
    arena = Arena(folder, size, seed + case.number)
    try:
        await case.run(arena)
    except Skipped as error:
        return Row.skipped(case.number, case.title, f"NOT TESTED: {error}")
    except (Exception, pytest.fail.Exception) as error:  # noqa: BLE001 - the campaign goes on
        arena.failures.append(_in_words(error))
    finally:
        await arena.close()
    return Row.of(case.number, case.title, arena, time.monotonic() - began)


def _in_words(error: BaseException) -> str:
    if isinstance(error, BaseExceptionGroup):
        return "; ".join(_in_words(inner) for inner in error.exceptions[:3])
    return f"{type(error).__name__}: {error}"


def machine() -> str:
    """The machine in words."""
    memory = psutil.virtual_memory().total / 2**30
    cores = len(os.sched_getaffinity(0))
    return (
        f"{cores} cores, {memory:.0f} GiB, {_processor()}, {platform.system()} "
        f"{platform.release()}, Python {platform.python_version()}"
    )


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text("utf-8").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()
