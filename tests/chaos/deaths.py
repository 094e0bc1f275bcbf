"""Processes that die, freeze, or are told to end: scenarios 1, 2, 6, 11 and 12."""

import asyncio
import signal
import subprocess
import time
from collections.abc import Iterable, Iterator
from functools import partial

import psutil

from tests.chaos.arena import Arena
from tests.chaos.history import Accepted
from tests.chaos.load import Mix
from tests.chaos.site import LEASE_SECONDS, MODEL, Site, until

BUSY = Mix(0, concurrency=120, words=(4, 24), step_ms=(2, 25))
POINTS = ("doorbell_taken", "claimed", "mid_append", "before_finish", "after_finish")
ARMED = range(2, 6)
DRAIN_SECONDS = 5
MOST = 0.9
"""Share of a frozen worker's jobs that must be fenced; what it wrote just before may have got through."""


def busy(arena: Arena, concurrency: int = BUSY.concurrency) -> Mix:
    """A load that keeps two workers at work."""
    return Mix(arena.size.n, concurrency=concurrency, words=BUSY.words, step_ms=BUSY.step_ms)


async def kill_workers_and_hosts(arena: Arena) -> None:
    """1: kill -9 of workers and of engine hosts in turn, whenever they hold jobs."""
    arena.may_fail()
    site = await arena.open()
    async with arena.load(busy(arena)):
        for number in range(arena.size.faults):
            victim = await _holder(arena, site)
            worker = site.worker_name(victim)
            if number % 2:
                hosts = site.hosts(f"worker-{MODEL}-{victim}")
                arena.fault("kill -9 host", worker, site.held_by(worker))
                for host in hosts:
                    host.kill()
                await until(partial(_gone, hosts), 60, "hosts end")
            else:
                arena.fault("kill -9 worker", worker, site.held_by(worker))
                site.kill(f"worker-{MODEL}-{victim}")
                site.one(victim)
            await site.serving(victim)


async def kill_at_named_points(arena: Arena) -> None:
    """2: workers die at each named point, four at a time; another one is healthy. `faults` is per point."""
    arena.may_fail()
    site = await arena.open(workers=1)
    async with arena.load(busy(arena, 60)):
        for point in POINTS:
            left = iter(range(arena.size.faults))
            async with asyncio.TaskGroup() as lanes:
                for victim in ARMED:
                    lanes.create_task(_die_in_turn(arena, site, victim, point, left))
    # A drain signs off when it has been idle: the armed worker must be the only one, and not busy.
    site.kill(f"worker-{MODEL}-1")
    sparse = Mix(1, concurrency=2, words=(1, 5), step_ms=(1, 10), rest=(0.0, 6.0))
    async with arena.load(sparse):
        for _ in range(arena.size.faults):
            await _die_at(arena, site, 2, "before_sign_off", 1)
        site.one(1)


async def _die_in_turn(
    arena: Arena, site: Site, victim: int, point: str, left: Iterator[int]
) -> None:
    """One armed worker after the other, as long as deaths are left."""
    for _ in left:
        await _die_at(arena, site, victim, point, arena.draw.randint(1, 5))


async def _die_at(arena: Arena, site: Site, victim: int, point: str, nth: int) -> None:
    """Start a worker armed and ring for it until it is dead."""
    count = 1 if point == "doorbell_taken" else nth
    process = site.one(victim, TRUTHGPT_FAULT=f"{point}:{count}")
    worker = site.worker_name(victim)

    def dead() -> bool:
        if process.poll() is not None:
            return True
        if point != "before_sign_off" and worker in site.ready_workers():
            site.ring()
        return False

    await until(dead, 90, f"worker {victim} dies at {point}")
    arena.fault(f"kill at {point}", worker, site.held_by(worker))
    arena.require(process.returncode == -signal.SIGKILL, f"{point}: exit {process.returncode}")


async def freeze_past_the_lease(arena: Arena) -> None:
    """6: SIGSTOP a worker and its host until its jobs belong to others, then SIGCONT."""
    arena.may_fail()
    site = await arena.open()
    stolen = 0
    async with arena.load(busy(arena)):
        for _ in range(arena.size.faults):
            victim = await _holder(arena, site, 4)
            worker = site.worker_name(victim)
            site.freeze(f"worker-{MODEL}-{victim}")
            held = site.held_by(worker)
            arena.fault("SIGSTOP past the lease", worker, held)
            try:
                await until(
                    partial(_holds_none, site, worker), LEASE_SECONDS + 5, "its jobs are taken"
                )
            finally:
                site.thaw()
            stolen += len(held)
            await site.serving(victim)
    said = "".join(site.log(f"worker-{MODEL}-{number}") for number in (1, 2))
    fenced = said.count("belongs to another attempt now")
    arena.note(f"{stolen} jobs taken from frozen workers, {fenced} attempts dropped as fenced")
    arena.require(fenced >= MOST * stolen, "writes of thawed workers were not told as fenced")


async def poison_among_good_jobs(arena: Arena) -> None:
    """11: jobs that kill their engine host among good ones; `faults` is how many."""
    arena.may_fail()
    catalogue = f"models: {{{MODEL}: {{engine: 'tests.workers.faulty:Faulty'}}}}"
    site = await arena.open(catalogue)
    size = arena.size
    poisons = {size.n // (2 * size.faults) * (2 * number + 1) for number in range(size.faults)}
    async with arena.crowd(Mix(0, readers=0.1, cancels=0.0)) as crowd:
        gate = asyncio.Semaphore(32)

        async def visit(number: int) -> tuple[bool, str, str]:
            async with gate:
                poison = number in poisons
                prompt = "segfault" if poison else f"good {number}"
                body = {"model": MODEL, "prompt": prompt}
                key = f"poison-{arena.draw.getrandbits(32)}-{number}"
                final = await crowd.visit(body, key, streams=False)
                assert final is not None, "these jobs have time"
                return poison, final.status, final.code

        ended = await asyncio.gather(*(visit(number) for number in range(size.n)))
    arena.jobs, arena.faults = size.n, len(poisons)
    bad = [end for end in ended if end[0]]
    good = [end for end in ended if not end[0]]
    arena.require(
        all(end == (True, "failed", "worker_crashed") for end in bad), f"poison ended as {bad}"
    )
    hurt = sum(status != "succeeded" for _, status, _ in good)
    arena.require(not hurt, f"{hurt} of {len(good)} innocent jobs failed with the poison")
    lives = site.log(f"worker-{MODEL}-1") + site.log(f"worker-{MODEL}-2")
    arena.note(f"{lives.count('is gone: signal 11')} engine hosts died")


async def rolling_sigterm(arena: Arena) -> None:
    """12: SIGTERM to the workers in turn, every fifth time to the API, under load."""
    site = await arena.open(WORKER_DRAIN_SEC=str(DRAIN_SECONDS))
    mix = Mix(arena.size.n, concurrency=60, words=(4, 24), step_ms=(2, 25))
    long = Mix(1, concurrency=4, words=(30, 30), step_ms=(300, 400), readers=1.0)
    slowest = 0.0
    async with arena.load(mix), arena.load(long):
        for number in range(arena.size.faults):
            victim = 1 + number % 2
            name = "api" if number % 5 == 4 else f"worker-{MODEL}-{victim}"
            process = site.processes.pop(name)
            family = psutil.Process(process.pid).children()
            arena.fault("SIGTERM", name)
            began = time.monotonic()
            process.send_signal(signal.SIGTERM)
            await until(partial(_ended, process), 60, f"{name} ends")
            took = time.monotonic() - began
            slowest = max(slowest, took)
            arena.require(took <= DRAIN_SECONDS + 5, f"{name} took {took:.1f} s to end")
            arena.require(process.returncode == 0, f"{name} exited with {process.returncode}")
            await until(partial(_gone, family), 5, f"{name}: children end")
            if name == "api":
                site.start("api", "api")
            else:
                site.one(victim)
                await site.serving(victim)
    charged = crashes(arena, site)
    arena.require(not charged, f"{charged} jobs were charged a crash for an orderly end")
    arena.note(f"slowest exit {slowest:.1f} s with a drain time of {DRAIN_SECONDS} s")


def crashes(arena: Arena, site: Site) -> int:
    """How many accepted jobs have been charged a crash."""
    jobs = {entry.job for entry in arena.history.of(Accepted)}
    pipe = site.store.redis.pipeline(transaction=False)
    for job in jobs:
        pipe.hget(site.store.keys("job", job), "crashes")
    return sum(int(count or 0) > 0 for count in pipe.execute())


def _gone(members: Iterable[psutil.Process]) -> bool:
    return not any(member.is_running() for member in members)


def _ended(process: "subprocess.Popen[bytes]") -> bool:
    return process.poll() is not None


async def _holder(arena: Arena, site: Site, least: int = 1) -> int:
    """The number of a worker, drawn among those that hold so many jobs, once there is one."""

    def holders() -> list[int]:
        return [n for n in (1, 2) if len(site.held_by(site.worker_name(n))) >= least]

    await until(holders, 60, f"a worker holds {least} jobs")
    return arena.draw.choice(holders() or [1, 2])


def _holds_none(site: Site, worker: str) -> bool:
    return not site.held_by(worker)
