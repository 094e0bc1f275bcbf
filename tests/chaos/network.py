"""Networks that stop delivering: scenario 5. Each side of Redis has a proxy of its own."""

import asyncio
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace

from tests.chaos.arena import Arena, Wiring
from tests.chaos.history import Fault
from tests.chaos.outages import CONSUME_SECONDS, all_consume, everybody
from tests.chaos.proxy import FaultProxy
from tests.chaos.site import Site


async def partitions(arena: Arena) -> None:
    """5: black holes and half-open connections of `seconds`, `faults` times at each side."""
    with ExitStack() as proxies:
        sides: dict[str, FaultProxy] = {}

        def wiring(site: Site) -> Wiring:
            port = site.redis.port
            for side in ("API", "workers"):
                sides[side] = proxies.enter_context(FaultProxy(port))
            return Wiring(
                api={"REDIS_URL": f"redis://127.0.0.1:{sides['API'].port}/0"},
                worker=lambda _: {"REDIS_URL": f"redis://127.0.0.1:{sides['workers'].port}/0"},
            )

        site = await arena.open(wiring=wiring)
        # A job may live through an outage at each side, and its reader with it.
        mix = replace(everybody(arena), patience=arena.size.seconds * 4 + 60)
        async with arena.load(mix):
            await all_consume(site, time.time(), 1, 2)
            for number in range(arena.size.faults):
                for side, proxy in sides.items():
                    name, breaks = _breaks(proxy)[number % 4]
                    arena.faults += 1
                    breaks()
                    await asyncio.sleep(arena.size.seconds)
                    proxy.heal()
                    back = time.time()
                    took = await all_consume(site, back, 1, 2)
                    arena.history.add(Fault(back, f"{name}, healed", side, recovered=took))
                    arena.require(
                        took <= CONSUME_SECONDS, f"{name} at {side}: back after {took:.0f} s"
                    )
        await arena.close()


def _breaks(proxy: FaultProxy) -> list[tuple[str, Callable[[], None]]]:
    return [
        ("black hole", proxy.hold),
        ("half open: answers lost", lambda: proxy.hold("down")),
        ("swallowed", proxy.drop),
        ("half open: requests lost", lambda: proxy.hold("up")),
    ]
