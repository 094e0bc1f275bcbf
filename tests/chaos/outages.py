"""Redis that dies, cuts connections or is full: scenarios 3, 4 and 8."""

import asyncio
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from redis import Redis

from tests.chaos.arena import Arena, Skipped
from tests.chaos.history import Accepted, Fault
from tests.chaos.load import Mix
from tests.chaos.site import MODEL, Site, until
from tests.chaos.wire import Wire
from tests.integration.stack import TOKEN

CONSUME_SECONDS = 60.0
PROBE = {"model": MODEL, "prompt": "is there room"}
EVERYBODY = 240
"""Clients at once, so that more jobs wait than one drain looks after, and every worker is wanted."""


def everybody(arena: Arena) -> Mix:
    crowd = min(EVERYBODY, 3 * arena.size.n)
    return Mix(arena.size.n, concurrency=crowd, words=(6, 16), step_ms=(15, 60))


async def all_consume(site: Site, since: float, *numbers: int) -> float:
    """Wait until each of these workers runs a job that first started after `since` (Unix time).

    Returns how long after `since` that was.
    """
    wanted = {site.worker_name(number) for number in numbers}

    def consuming() -> bool:
        wanted.difference_update(who for who, at in site.running().values() if at > since)
        return not wanted

    await until(consuming, CONSUME_SECONDS + 30, f"{wanted} consume again")
    return time.time() - since


async def redis_killed(arena: Arena) -> None:
    """3: kill -9 of Redis under load, restart from its append-only file."""
    site = await arena.open()
    async with arena.load(everybody(arena)):
        await all_consume(site, time.time(), 1, 2)
        for _ in range(arena.size.faults):
            await asyncio.sleep(arena.draw.uniform(0.2, 1.5))
            arena.faults += 1
            site.redis.stop()
            await asyncio.sleep(arena.draw.uniform(0.1, 2.0))
            await asyncio.to_thread(site.redis.start)
            back = time.time()
            took = await all_consume(site, back, 1, 2)
            arena.history.add(Fault(back, "kill -9 redis", recovered=took))
            arena.require(
                took <= CONSUME_SECONDS, f"workers consumed again only after {took:.0f} s"
            )


async def connections_killed(arena: Arena) -> None:
    """4: CLIENT KILL of every connection, again and again."""
    site = await arena.open()
    admin: Any = Redis.from_url(site.redis.url)
    cut = 0
    async with arena.load(everybody(arena)):
        for _ in range(arena.size.faults):
            await asyncio.sleep(arena.draw.uniform(0.2, 0.8))
            arena.fault("CLIENT KILL")
            for kind in ("normal", "pubsub"):
                cut += int(admin.execute_command("CLIENT", "KILL", "TYPE", kind))
        since = time.time()
        took = await all_consume(site, since, 1, 2)
    admin.close()
    arena.note(f"{cut} connections cut; all workers consumed again {took:.1f} s after the last")


async def redis_full(arena: Arena) -> None:
    """8: the disk under the append-only file is full, then maxmemory is reached, in turns.

    Submits get 503, nothing that was accepted is lost, and all recovers by itself.
    """
    site = await arena.open()
    disk = await _small_disk(arena, site)
    admin: Any = Redis.from_url(site.redis.url)
    probes: list[str] = []
    async with arena.load(everybody(arena)) as load:
        await all_consume(site, time.time(), 1, 2)
        for number in range(arena.size.faults):
            if number % 2:
                info = admin.info("memory")
                admin.config_set("maxmemory", int(info["used_memory"]))
                probes += await _refused(arena, site, "memory full")
                admin.config_set("maxmemory", 0)
                await _healed(arena, site, "memory freed")
            else:
                filler = disk / "filler"
                _fill(filler)
                probes += await _refused(arena, site, "disk full")
                filler.unlink()
                await _healed(arena, site, "disk freed")
        for job in probes:
            await load.end(job)
    admin.close()
    arena.note(f"{load.refusals(503)} answers were 503, {load.refusals(500)} were 500")
    arena.require(not load.refusals(500), f"{load.refusals(500)} answers were 500")


async def _small_disk(arena: Arena, site: Site) -> Path:
    """Put Redis's folder on a tmpfs of a few MiB. Raises `Skipped`."""
    folder = site.folder / "redis"
    site.redis.stop()
    command = ["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", str(folder)]
    made = subprocess.run(command, capture_output=True, check=False)
    await asyncio.to_thread(site.redis.start)
    if made.returncode:
        raise Skipped(f"the right to mount a small tmpfs ({made.stderr.decode().strip()})")
    arena.afterwards(lambda: subprocess.run(["umount", str(folder)], check=False))
    return folder


def _fill(file: Path) -> None:
    with suppress(OSError), file.open("wb", buffering=0) as filler:
        while True:
            filler.write(bytes(65536))


async def _refused(arena: Arena, site: Site, what: str) -> list[str]:
    """Submit until the answer is 503, and leave it so for the size's seconds.

    Returns the jobs that were accepted on the way.
    """
    accepted = []
    arena.faults += 1
    wire = Wire(site.url, TOKEN)
    deadline = time.monotonic() + 60
    while True:
        key = f"{what}-{arena.draw.getrandbits(40)}"
        answer = await wire.call("POST", "/v1/jobs", PROBE, headers={"Idempotency-Key": key})
        if answer.status == 503:
            break
        if answer.ok:
            job = answer.json()["id"]
            arena.history.add(Accepted(time.time(), job, key, PROBE["prompt"]))
            accepted.append(job)
        arena.require(answer.ok, f"{what}: a submit was answered {answer.status} {answer.code}")
        if not answer.ok or time.monotonic() > deadline:
            arena.require(answer.ok is False, f"{what}: submits were never refused")
            break
        await asyncio.sleep(0.05)
    wire.close()
    await asyncio.sleep(arena.size.seconds)
    return accepted


async def _healed(arena: Arena, site: Site, what: str) -> None:
    back = time.time()
    took = await all_consume(site, back, 1, 2)
    arena.history.add(Fault(back, what, recovered=took))
    arena.require(took <= CONSUME_SECONDS, f"workers consumed again only after {took:.0f} s")
