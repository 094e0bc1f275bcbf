"""Half an hour of nothing special: scenario 16. What grows, and by how much."""

import asyncio
from statistics import median
from time import monotonic
from typing import Any

import psutil

from tests.chaos.arena import Arena
from tests.chaos.load import Mix
from tests.chaos.site import Site

LOOK_SECONDS = 2.0
FLAT = 0.02
HALF = Mix(1, concurrency=40, words=(4, 20), step_ms=(2, 25), rest=(0.0, 1.0), keyed=False)
"""About half of what two workers of 16 slots do on two cores. No keys: those live for a day."""


async def soak(arena: Arena) -> None:
    """16: half load for `seconds`; memory of the last third against that of the middle third."""
    retention = max(60, int(arena.size.seconds / 6))
    site = await arena.open(JOB_RETENTION_SEC=str(retention))
    samples: list[dict[str, int]] = []
    async with arena.load(HALF):
        end = monotonic() + arena.size.seconds
        while monotonic() < end:
            samples.append(_memory(site))
            arena.keep_logs()
            await asyncio.sleep(LOOK_SECONDS)
    third = len(samples) // 3
    for name in samples[-1]:
        middle = median(sample[name] for sample in samples[third : 2 * third])
        last = median(sample[name] for sample in samples[2 * third :])
        share = last / middle - 1
        arena.note(f"{name}: {last / 2**20:.1f} MiB, {share:+.1%}")
        arena.require(share < FLAT, f"{name} grew by {share:.1%}")


def _memory(site: Site) -> dict[str, int]:
    """Bytes by process, children with their parents, and Redis by its own account."""
    found = {}
    for name, process in site.processes.items():
        root = psutil.Process(process.pid)
        found[name] = sum(p.memory_info().rss for p in [root, *root.children(recursive=True)])
    info: Any = site.store.redis.info("memory")
    found["redis"] = int(info["used_memory"])
    return found
