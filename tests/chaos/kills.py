"""Kills of a server's processes by SIGKILL, each until what was killed serves again."""

import asyncio
from collections.abc import Iterable
from contextlib import suppress

import psutil

from tests.chaos.arena import Arena
from tests.chaos.site import MODEL, Site, until


async def kill_host(arena: Arena, site: Site) -> None:
    name = f"worker-{MODEL}-1"
    arena.faults += 1
    await _end(site.hosts(name))
    await site.serving(1)


async def kill_worker(arena: Arena, site: Site) -> None:
    arena.faults += 1
    site.kill(f"worker-{MODEL}-1")
    site.one(1)
    await site.serving(1)


async def kill_api(arena: Arena, site: Site) -> None:
    arena.faults += 1
    serving = site.children("api")
    site.kill("api")
    await _end(serving)
    site.start("api", "api")
    await asyncio.to_thread(site.ready, MODEL)


async def kill_redis(arena: Arena, site: Site) -> None:
    arena.faults += 1
    site.redis.stop()
    await asyncio.to_thread(site.redis.start)
    await site.serving(1)


async def kill_batches(arena: Arena, site: Site) -> None:
    arena.faults += 1
    site.kill("batches")
    site.start("batches", "batches")


async def _end(processes: Iterable[psutil.Process]) -> None:
    victims = list(processes)
    for victim in victims:
        with suppress(psutil.NoSuchProcess):
            victim.kill()
    await until(lambda: not any(map(_alive, victims)), 10, "they end")


def _alive(process: psutil.Process) -> bool:
    return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
