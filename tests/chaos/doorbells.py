"""Doorbells that are lost, doubled or handed out again, and keys used at once: scenarios 13, 14, 15."""

import asyncio
import threading
import time
from collections import Counter
from typing import Any

from redis import Redis

from shared.broker import queue_name
from tests.chaos.arena import ECHO, Arena
from tests.chaos.history import Accepted, Fault, Final
from tests.chaos.load import Mix
from tests.chaos.site import MODEL, Late, Site, until
from tests.chaos.wire import Wire
from tests.integration.stack import TOKEN

AT_ONCE = 100
THIEVES = 8
VISIBILITY_SECONDS = 5


async def one_key_at_once(arena: Arena) -> None:
    """14: one Idempotency-Key, 100 submits at once; `n` keys."""
    site = await arena.open()
    tries = 0
    wire = Wire(site.url, TOKEN)
    async with arena.crowd(Mix(0)) as crowd:
        for number in range(arena.size.n):
            body = {"model": MODEL, "prompt": f"key {number}"}
            key = f"same-{arena.draw.getrandbits(32)}-{number}"
            answers = await asyncio.gather(
                *(
                    wire.call("POST", "/v1/jobs", body, headers={"Idempotency-Key": key})
                    for _ in range(AT_ONCE)
                )
            )
            tries += len(answers)
            statuses = Counter(answer.status for answer in answers)
            arena.require(
                statuses == {202: 1, 200: AT_ONCE - 1}, f"key {number}: answers {dict(statuses)}"
            )
            for job in {answer.json()["id"] for answer in answers if answer.ok}:
                arena.history.add(Accepted(time.time(), job, key, body["prompt"]))
                await crowd.end(job)
    wire.close()
    listed = site.store.redis.zcard(site.store.keys("index", "default"))
    arena.jobs, arena.faults = arena.size.n, tries
    arena.note(f"{tries} submits made {listed} jobs")
    arena.require(listed == arena.size.n, f"{listed} jobs in the tenant's index")


async def api_killed_and_rings_lost(arena: Arena) -> None:
    """15: the API dies between create and doorbell; doorbells are stolen, and doubled."""
    site = await arena.open()
    await _kill_api(arena, site)
    await _steal_rings(arena, site)
    await _double_rings(arena, site)


async def _kill_api(arena: Arena, site: Site) -> None:
    """`faults` deaths of an API process after it has stored a job and before it rang."""
    site.kill("api")
    with site.environment(TRUTHGPT_FAULT="created:11"):
        site.start("api", "api")
    deaths, known = 0, set[int]()
    began = time.monotonic()
    async with arena.load(Mix(1, concurrency=4, words=(2, 8), step_ms=(1, 5))):
        while deaths < arena.size.faults:
            alive = {child.pid for child in site.children("api")}
            for _ in known - alive:
                deaths += 1
                arena.fault("kill -9 API at created")
            known = alive
            if not deaths and time.monotonic() - began > 20:
                break
            await asyncio.sleep(0.02)
        site.kill("api")
        site.start("api", "api")
    arena.require(deaths, "the API never died at `created`: is the point in the API?")
    arena.note(f"{deaths} API deaths between create and doorbell")


async def _steal_rings(arena: Arena, site: Site) -> None:
    """`faults` doorbells taken off the broker's list by somebody who never answers them."""
    stolen = 0
    queue = f"{site.store.keys.prefix}:broker:{queue_name(MODEL)}"
    stop = asyncio.Event()

    def steal() -> int:
        redis: Any = Redis.from_url(site.redis.url, socket_timeout=10)
        count = 0
        while not stop.is_set():
            if redis.brpop(queue, timeout=1):
                count += 1
                # As if the marker of the lost ring had expired: the next ring may come at once.
                redis.delete(site.store.keys("bell", MODEL))
                totals.append(time.time())
        redis.close()
        return count

    totals: list[float] = []
    # Longer than a drain lingers: each job comes to an idle model and is rung for.
    mix = Mix(1, concurrency=1, words=(1, 4), step_ms=(1, 5), rest=(2.5, 3.5))
    async with arena.load(mix):
        thieves = [asyncio.create_task(asyncio.to_thread(steal)) for _ in range(THIEVES)]
        try:
            seconds = 60 + 6.0 * arena.size.faults
            await until(lambda: len(totals) >= arena.size.faults, seconds, "doorbells are stolen")
        finally:
            stop.set()
            stolen = sum(await asyncio.gather(*thieves))
    for at in totals:
        arena.faults += 1
        arena.history.add(Fault(at, "doorbell stolen"))
    arena.note(f"{stolen} doorbells stolen")


async def _double_rings(arena: Arena, site: Site) -> None:
    """`faults` copies of a doorbell pushed beside the real ones."""
    redis: Any = Redis.from_url(site.redis.url)
    queue = f"{site.store.keys.prefix}:broker:{queue_name(MODEL)}"
    message = await _any_ring(site, redis, queue)
    pushed = 0
    async with arena.load(Mix(1, concurrency=24, words=(2, 12), step_ms=(1, 10))):
        while pushed < arena.size.faults:
            copies = min(arena.draw.randint(1, 10), arena.size.faults - pushed)
            redis.lpush(queue, *[message] * copies)
            pushed += copies
            await asyncio.sleep(arena.draw.uniform(0, 0.2))
    arena.faults += pushed
    arena.note(f"{pushed} doorbells doubled")
    # Each copy that finds nothing lingers as a drain does.
    await until(lambda: redis.llen(queue) == 0, 30 + 2.5 * pushed, "the copies are answered")
    redis.close()


async def _any_ring(site: Site, redis: Any, queue: str) -> bytes:
    """A doorbell as Celery sends it, taken off the list: Redis serves those who wait for one in turn."""
    catch = asyncio.create_task(asyncio.to_thread(redis.brpop, queue, 10))
    while not catch.done():
        site.ring()
        await asyncio.sleep(0.05)
    caught: tuple[bytes, bytes] | None = await catch
    if caught is None:
        raise Late("no doorbell could be caught within 10 s")
    return caught[1]


async def short_visibility(arena: Arena) -> None:
    """13: the broker hands doorbells out again after 5 s while their jobs run for `seconds`."""
    site = await arena.open(
        ECHO.replace("max_size: 16", "max_size: 64"), BROKER_VISIBILITY_SEC=str(VISIBILITY_SECONDS)
    )
    words = 40
    mix = Mix(
        arena.size.n,
        concurrency=arena.size.n,
        words=(words, words),
        step_ms=(arena.size.seconds * 1000 / words,) * 2,
        cancels=0.0,
        hasty=0.0,
        patience=arena.size.seconds * 4 + 60,
    )
    stop = threading.Event()
    redelivered = asyncio.create_task(asyncio.to_thread(_redeliver, site, stop))
    try:
        async with arena.load(mix):
            pass
    finally:
        stop.set()
        arena.faults = await redelivered
    arena.note(f"{arena.faults} doorbells handed out again")
    arena.require(arena.faults, "the broker handed no doorbell out again")
    again = [final for final in arena.history.of(Final) if final.attempt != 1]
    arena.require(not again, f"{len(again)} jobs were run more than once")


def _redeliver(site: Site, stop: threading.Event) -> int:
    """Ring, and run kombu's own sweep for unacknowledged messages, each second (workers: each 100 s).

    Returns how many doorbells were put back on the list.
    """
    redis: Any = site.store.redis
    index = f"{site.store.keys.prefix}:broker:unacked_index"
    count = 0
    with site.celery.connection_for_write() as connection:
        channel = connection.default_channel
        while not stop.wait(1.0):
            late = redis.zrangebyscore(index, 0, time.time() - VISIBILITY_SECONDS)
            channel.qos.restore_visible(interval=1)
            # One that a busy worker takes waits there unacknowledged, longer than the broker does.
            site.ring()
            count += sum(redis.zscore(index, tag) is None for tag in late)
    return count
