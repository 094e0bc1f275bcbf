"""The tables: where the first limit is, and what moves it."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import msgspec

from bench.simulation.cell import Shape
from bench.simulation.costs import Costs, RedisCosts
from bench.simulation.runs import Outcome, closed_loop, open_loop
from bench.simulation.stack import Real, last_quick
from bench.table import table

ONE_SHOT = Shape(workers=100, apis=16, step=0.02, capacity=32)
STREAM = Shape(workers=100, apis=16, step=0.03, capacity=32, tokens=64, streamed=True)
KINDS = {"one-shot": ONE_SHOT, "64 streamed tokens": STREAM}
FLEET, DEMAND = 1000, 10_000
FRONT = 128
SHORT = 4.0
"""Seconds that are measured of each run, behind a warm-up of twice that."""

Run = Callable[[Shape, float], Outcome]


def tables(costs: Costs) -> Iterator[str]:
    """Each table as Markdown, as soon as it is done."""
    run = _runner(costs)
    yield _demand(run)
    yield _load(run)
    yield _fleet(run)
    yield _levers(costs)
    yield _cells(run)


def validation(costs: Costs, found: Sequence[Real]) -> str:
    """What the model foretells beside what the real stack did."""
    rows = [_quick_row(costs)]
    for real in found:
        load = real.load
        shape = Shape(
            workers=load.workers,
            apis=2,
            capacity=load.capacity,
            tokens=5,
            step=load.step_ms / 1000,
            aligned=False,
            cores=2,
        )
        said = closed_loop(
            costs, shape, load.clients, warm_up=load.warm_up, seconds=max(load.seconds, 20.0)
        )
        name = f"{load.workers} workers of {load.capacity}, 5 steps of {load.step_ms:g} ms"
        rows.append(_compared(name, real.rate, real.p50, real.cpu_us["redis"], said))
    head = (
        *("stack, 64 clients", "real jobs/s", "model", "error", "real p50", "model p50"),
        *("real Redis µs/job", "model µs/job"),
    )
    return "## The model beside the real stack\n\n" + table(head, rows)


def _quick_row(costs: Costs) -> tuple[str, ...]:
    """The closed loop of the last `make bench-quick`, whose figures are of a quiet machine."""
    turns = last_quick().entries[0].turns
    rate = sum(turn.report.rate for turn in turns) / len(turns)
    p50 = sum(turn.report.latency.p50 for turn in turns) / len(turns)
    redis = sum(t.cost.cpu_ms["redis"] for t in turns) * 1000 / len(turns)
    said = closed_loop(costs, Shape(workers=1, apis=2, cores=2), 64)
    return _compared("1 worker, echo at once (bench-quick)", rate, p50, redis, said)


def _compared(name: str, rate: float, p50: float, redis: float, said: Outcome) -> tuple[str, ...]:
    error = f"{100 * (said.rate / rate - 1):+.0f} %"
    figures = (f"{rate:,.1f}", f"{said.rate:,.1f}", error, f"{p50:,.0f} ms", f"{said.p50:,.0f} ms")
    return (name, *figures, f"{redis:,.0f}", f"{said.demand_us:,.0f}")


def _runner(costs: Costs) -> Run:
    return lambda shape, rate: open_loop(costs, shape, rate, seconds=SHORT, warm_up=2 * SHORT)


def limit(run: Run, shape: Shape) -> float:
    """Jobs a second at which Redis is busy all the time, by U = lambda * S with S at 60 % of that."""
    rate = 100.0
    for _ in range(4):
        said = run(shape, rate)
        rate = 0.6 * 1e6 / said.demand_us
    return 1e6 / run(shape, rate).demand_us


def _demand(run: Run) -> str:
    """Microseconds of Redis a job, by kind of call."""
    said = {name: run(shape, 300.0) for name, shape in KINDS.items()}
    kinds = sorted({kind for one in said.values() for kind in one.redis_us})
    rows = [
        (kind, *(f"{one.redis_us.get(kind, 0):,.0f}" for one in said.values())) for kind in kinds
    ]
    rows.append(("all", *(f"{one.demand_us:,.0f}" for one in said.values())))
    return "## Redis µs a job at 300 jobs/s, 100 workers\n\n" + table(("call", *KINDS), rows)


def _load(run: Run) -> str:
    rows = []
    for name, shape in KINDS.items():
        top = limit(run, shape)
        for share in (0.25, 0.5, 0.75, 0.9, 1.1):
            said = run(shape, top * share)
            rows.append((name, f"{said.offered:,.0f}", *_line(said)))
    return f"## One cell, {ONE_SHOT.workers} workers\n\n" + table(
        ("jobs", "offered/s", *HEAD), rows
    )


HEAD = ("ended/s", "Redis", "16 API processes", "slots", "drains", "Redis µs/job", "p50", "p99")


def _line(said: Outcome) -> tuple[str, ...]:
    shares = (said.redis, said.api, said.slots, said.drains)
    busy = [f"{100 * share:.0f} %" for share in shares]
    wait = f"{said.p50:,.0f} ms", f"{said.p99:,.0f} ms"
    return (f"{said.rate:,.0f}", *busy, f"{said.demand_us:,.0f}", *wait)


def _fleet(run: Run) -> str:
    """The same load on more and more workers: what a worker costs that is not needed."""
    rows = []
    for workers in (10, 100, FLEET):
        said = run(replace(ONE_SHOT, workers=workers), 500.0)
        rows.append((str(workers), *_line(said)))
    return "## 500 one-shot jobs/s on more workers\n\n" + table(("workers", *HEAD), rows)


def _levers(costs: Costs) -> str:
    """Where Redis is full, by what is changed."""
    plain, run = costs.redis, _runner(costs)
    rows: list[tuple[str, str, str]] = []

    def add(name: str, change: str, shape: Shape, redis: RedisCosts = plain) -> None:
        said = limit(
            run if redis is plain else _runner(msgspec.structs.replace(costs, redis=redis)), shape
        )
        rows.append((name, change, f"{said:,.0f}"))

    for merge in (1, 4, 16):
        add("64 streamed tokens", f"{merge} tokens an event", replace(STREAM, merge=merge))
    add("64 streamed tokens", "no reader", replace(STREAM, streamed=False))
    for capacity in (1, 8, 32):
        few = replace(ONE_SHOT, capacity=capacity, workers=max(100, 1600 // capacity))
        add("one-shot", f"batches of up to {capacity}, {few.workers} workers", few)
    for workers in (10, FLEET):
        add("one-shot", f"{workers} workers", replace(ONE_SHOT, workers=workers))
    free = msgspec.structs.replace(plain, trip=0.0, listener=0.0, subscriber=0.0)
    add("one-shot", "the network's share gone (bound for io-threads)", ONE_SHOT, free)
    add("64 streamed tokens", "the network's share gone", STREAM, free)
    return "## Jobs/s that fill one Redis\n\n" + table(("jobs", "change", "jobs/s"), rows)


def _cells(run: Run) -> str:
    """10,000 jobs/s and 1,000 workers, shared evenly by more and more cells."""
    rows = []
    for name, shape in KINDS.items():
        top = limit(run, replace(shape, workers=FLEET // 10))
        least = -(-DEMAND // int(top))
        for cells in (1, least, round(least * 1.25 + 0.5), round(least * 1.5 + 0.5), 2 * least):
            part = replace(shape, workers=FLEET // cells, apis=max(2, FRONT // cells))
            said = run(part, DEMAND / cells)
            keeps = "yes" if said.keeps_up else "no"
            row = (f"{said.rate:,.0f}", f"{100 * said.redis:.0f} %", f"{said.p50:,.0f} ms")
            rows.append((name, str(cells), keeps, *row, f"{said.p99:,.0f} ms"))
    head = ("jobs", "cells", "keeps up", "ended/s a cell", "Redis", "p50", "p99")
    title = f"## {DEMAND:,} jobs/s on {FLEET:,} workers and {FRONT} API processes, in cells"
    return f"{title}\n\n{table(head, rows)}"
