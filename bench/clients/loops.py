"""How jobs come: in a closed loop of clients, or by themselves in an open one.

In a closed loop each client sends a job, waits for its answer, sends the next. In an open loop jobs arrive by
a Poisson process whether or not earlier ones are answered, and a job's time counts from when it was to
arrive, so that a subject that stands still is charged for all that it kept waiting (no "coordinated
omission").
"""

import asyncio
import random
import time
from collections.abc import Callable
from typing import Protocol

from bench.clients.connection import Connection

PAUSE_SECONDS = 0.1
"""After an error in a closed loop, so that a broken subject is not asked in a busy loop."""
SEED = 20261123
"""Of the arrivals: all subjects see the same ones."""
IDLE_SECONDS = 1.0
"""An open loop leaves a connection that was unused for longer: gunicorn closes its own after two."""


class Jobs(Protocol):
    """What a loop asks for."""

    def connect(self) -> Connection: ...

    async def do(self, connection: Connection, due: float | None = None) -> bool:
        """One job; whether it got its right answer. `due` is when it was to arrive; None is now."""

    def overrun(self) -> None:
        """A job that was due was not sent, because too many were open."""


async def closed_loop(jobs: Jobs, clients: int, over: Callable[[], bool]) -> None:
    """Run `clients` until `over`; each ends its last job."""

    async def client() -> None:
        connection = jobs.connect()
        try:
            while not over():
                if not await jobs.do(connection):
                    await asyncio.sleep(PAUSE_SECONDS)
        finally:
            connection.close()

    async with asyncio.TaskGroup() as group:
        for _ in range(clients):
            group.create_task(client())


async def open_loop(jobs: Jobs, rate: float, most: int, over: Callable[[float], bool]) -> None:
    """Let `rate` jobs a second arrive, at most `most` open at once, and wait until all have ended.

    `over` says of the moment of an arrival whether it is too late to count: it is the first not sent.
    """
    arrivals = random.Random(SEED)
    idle: list[tuple[float, Connection]] = []
    opened = 0

    async def job(due: float) -> None:
        nonlocal opened
        connection = _fresh(idle) or jobs.connect()
        try:
            right = await jobs.do(connection, due)
        except asyncio.CancelledError:
            connection.close()
            raise
        finally:
            opened -= 1
        if right:
            idle.append((time.perf_counter(), connection))
        else:
            connection.close()

    due = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        while True:
            due += arrivals.expovariate(rate)
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            if over(due):
                break
            if opened >= most:
                jobs.overrun()
                continue
            opened += 1
            group.create_task(job(due))
    for _, connection in idle:
        connection.close()


def _fresh(idle: list[tuple[float, Connection]]) -> Connection | None:
    """The connection that was used last, if that was not long ago; all are closed if it was."""
    if not idle:
        return None
    left, connection = idle.pop()
    if time.perf_counter() - left < IDLE_SECONDS:
        return connection
    connection.close()
    while idle:
        idle.pop()[1].close()
    return None
