"""Open loops: jobs come when they are due, whatever the subject does, and time counts from then."""

import asyncio
import random
import threading
from collections.abc import Callable
from itertools import pairwise

import pytest

from bench.clients.connection import Connection
from bench.clients.load import Load
from bench.clients.loops import SEED, open_loop
from bench.clients.order import Dialect, Mark, Order, Report
from tests.bench.echo_server import EchoServer, serving

RATE = 100.0
DIALECT = Dialect(path="/infer", answer=("output", "text"))


class Recorder:
    """Jobs that end when they are let go."""

    def __init__(self) -> None:
        self.due: list[float] = []
        self.refused = 0
        self.go = asyncio.Event()

    def connect(self) -> Connection:
        return Connection("127.0.0.1", 1)

    async def do(self, connection: Connection, due: float | None = None) -> bool:
        assert due is not None
        self.due.append(due)
        await self.go.wait()
        return True

    def overrun(self) -> None:
        self.refused += 1


def run(
    server: EchoServer,
    *,
    most: int = 1000,
    seconds: float = 0.4,
    tell: Callable[[Mark], None] = lambda mark: None,
) -> tuple[Report, list[str]]:
    complaints: list[str] = []
    order = Order(server.url, DIALECT, most, warm_up=0.05, seconds=seconds, rate=RATE, settle=0)
    return asyncio.run(Load(order, tell, complaints.append).run()), complaints


def test_arrivals_do_not_wait_for_answers() -> None:
    async def record() -> list[float]:
        jobs = Recorder()
        loop = asyncio.create_task(open_loop(jobs, 2000.0, 1000, lambda _: len(jobs.due) >= 50))
        while len(jobs.due) < 50:
            await asyncio.sleep(0)
        jobs.go.set()
        await loop
        return jobs.due

    due = asyncio.run(record())

    arrivals = random.Random(SEED)
    drawn = [arrivals.expovariate(2000.0) for _ in due]
    gaps = [later - earlier for earlier, later in pairwise(due)]
    assert gaps == pytest.approx(drawn[1:], abs=1e-6)


def test_no_more_than_the_bound_is_open() -> None:
    async def record() -> tuple[int, int]:
        jobs = Recorder()
        loop = asyncio.create_task(open_loop(jobs, 2000.0, 3, lambda _: jobs.refused >= 5))
        while jobs.refused < 5:
            await asyncio.sleep(0)
        jobs.go.set()
        await loop
        return len(jobs.due), jobs.refused

    assert asyncio.run(record()) == (3, 5)


def test_every_job_of_an_open_loop_is_answered_and_counted() -> None:
    with serving(lambda *_: "right") as server:
        report, complaints = run(server)

    assert complaints == []
    assert 0 < report.answers <= report.right == server.said["right"]
    assert report.latency.p50 > 0


def test_a_standstill_is_charged_to_all_that_came_meanwhile() -> None:
    """A client that waits for its answers would have seen one slow job: here it is most of them.

    The standstill ends 400 ms after the first request since `begun`, which may be of a job that was due
    before and is not counted: the longest wait is shorter by the gap to the next arrival, at 100 a second.
    """
    begun, again = threading.Event(), threading.Event()

    def behave(_number: int, _prompt: str) -> str:
        if begun.is_set():
            threading.Timer(0.4, again.set).start()
            again.wait(60)
        return "right"

    with serving(behave) as server:
        report, complaints = run(server, seconds=0.5, tell=lambda mark: begun.set())

    assert complaints == []
    assert report.answers > 1
    assert report.latency.p99 >= 300
    assert report.latency.p50 >= 50


def test_jobs_beyond_the_bound_are_errors() -> None:
    over = threading.Event()

    def behave(_number: int, _prompt: str) -> str:
        over.wait(60)
        return "right"

    with serving(behave) as server:
        report, _ = run(server, most=4, tell=lambda mark: mark.moment == "ends" and over.set())

    assert report.errors["too many jobs open"] > 0
    assert report.right >= 4
    assert report.right == server.said["right"]
