"""Many readers, and slow ones: scenarios 9 and 10."""

import asyncio
import socket
from contextlib import suppress
from statistics import median
from time import monotonic

import psutil

from tests.chaos.arena import ECHO, Arena
from tests.chaos.load import Load, Mix
from tests.chaos.recovery import quantile
from tests.chaos.site import MODEL, Site
from tests.integration.stack import TOKEN

WIDE = ECHO.replace("max_size: 16", "max_size: 256")
CALM = Mix(0, cancels=0.0, hasty=0.0, patience=300.0)
MEBIBYTE = 2**20
WORDS = 60
ROUNDS = 5
CHANGE = 0.1
"""How much the p99 of others may change, where rounds without slow readers differ by less."""
BOUND = 1.0
"""MiB of API memory that one reader may cost."""


async def many_readers(arena: Arena) -> None:
    """9: `n` readers at once, each of whom cuts its connection `faults` times."""
    await arena.open(WIDE)
    cuts = 0
    async with arena.crowd(CALM) as crowd:

        async def visit(number: int) -> None:
            body = {"model": MODEL, "prompt": "word " * WORDS, "params": {"step_ms": 100}}
            job = await crowd.submit(body, f"many-{arena.draw.getrandbits(40)}-{number}")
            places = [arena.draw.randrange(1, 150) for _ in range(arena.size.faults)]
            await crowd.read(job, f"reader-{number}", places)
            await crowd.end(job)

        await asyncio.gather(*(visit(number) for number in range(arena.size.n)))
        cuts = crowd.cuts
    arena.jobs, arena.faults = arena.size.n, cuts


class SlowReader:
    """Takes one byte a second through a tiny buffer."""

    def __init__(self, site: Site, job: str) -> None:
        self._socket = socket.socket()
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        self._socket.connect(("127.0.0.1", site.port))
        request = f"GET /v1/jobs/{job}/events HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}"
        self._socket.sendall(request.encode() + b"\r\n\r\n")
        self._socket.setblocking(False)

    def sip(self) -> None:
        with suppress(OSError):
            self._socket.recv(1)

    def close(self) -> None:
        self._socket.close()


async def slow_readers(arena: Arena) -> None:
    """10: `faults` readers at 1 B/s; the latency of `n` other jobs with and without them, in turns."""
    site = await arena.open(WIDE)
    calm: list[list[float]] = []
    beside: list[list[float]] = []
    grown = 0
    share = max(1, arena.size.n // (2 * ROUNDS))
    async with arena.crowd(CALM) as crowd:
        jobs = await asyncio.gather(*(_long_job(crowd, n) for n in range(arena.size.faults)))
        await _latencies(arena, crowd, share, "warm")
        for number in range(ROUNDS):
            calm.append(await _latencies(arena, crowd, share, f"calm-{number}"))
            before = _memory(site)
            slow = [SlowReader(site, job) for job in jobs]
            sips = asyncio.create_task(_sip(slow))
            await asyncio.sleep(2)
            beside.append(await _latencies(arena, crowd, share, f"beside-{number}"))
            grown = max(grown, _memory(site) - before)
            sips.cancel()
            for reader in slow:
                reader.close()
            await asyncio.sleep(2)
    arena.jobs, arena.faults = 2 * ROUNDS * share, len(jobs)
    quiet, busy = ([quantile(r, 0.99) * 1000 for r in rounds] for rounds in (calm, beside))
    change = median(busy) / median(quiet) - 1
    noise = (max(quiet) - min(quiet)) / median(quiet)
    arena.note(
        f"p99 of others, median of {ROUNDS} rounds: {median(quiet):.0f} ms without "
        f"({min(quiet):.0f} to {max(quiet):.0f}), {median(busy):.0f} ms beside slow readers "
        f"({min(busy):.0f} to {max(busy):.0f}), {change:+.0%}; API memory {grown / MEBIBYTE:+.1f} MiB"
    )
    arena.require(change < max(CHANGE, noise), f"p99 of others changed by {change:+.0%}")
    arena.require(grown < BOUND * MEBIBYTE * len(jobs), f"{grown / MEBIBYTE:.0f} MiB more memory")


async def _long_job(crowd: Load, number: int) -> str:
    body = {"model": MODEL, "prompt": "word " * 600, "params": {"step_ms": 2}}
    job = await crowd.submit(body, f"long-{number}-{monotonic()}")
    await crowd.end(job)
    return job


async def _latencies(arena: Arena, crowd: Load, number: int, name: str) -> list[float]:
    """Seconds from submit to the end of short jobs, four at a time."""
    gate = asyncio.Semaphore(4)

    async def one(which: int) -> float:
        async with gate:
            began = monotonic()
            key = f"{name}-{arena.draw.getrandbits(40)}-{which}"
            job = await crowd.submit({"model": MODEL, "prompt": "a short one"}, key)
            await crowd.end(job)
            return monotonic() - began

    return await asyncio.gather(*(one(which) for which in range(number)))


async def _sip(readers: list[SlowReader]) -> None:
    while True:
        for reader in readers:
            reader.sip()
        await asyncio.sleep(1)


def _memory(site: Site) -> int:
    """Bytes resident in the API's processes."""
    root = psutil.Process(site.processes["api"].pid)
    return sum(member.memory_info().rss for member in [root, *root.children()])
