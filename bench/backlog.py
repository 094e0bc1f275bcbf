"""`python -m bench.backlog [--jobs N]`: what a long queue costs the calls that are made beside it.

One Redis holds two job stores under different prefixes, one with N waiting jobs and one with a few.
Each call is made on one and then on the other, over and over, so that both see the same machine.
The jobs are those of a text model, as the API makes them. Before them N / 10 others show what a greedy
job takes, which may share its result (docs/cache.md) and is found by what it asks.
"""

import argparse
import gc
import secrets
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgspec

from bench.command import parser, publish, run, today
from bench.reporting.figures import over, percentile
from bench.reporting.machine import Machine, look_around, machine_lines
from shared.domain.records import Claim, NewJob, Requeue, new_job_id
from shared.domain.requests.params import checked
from shared.domain.sharing import Share
from shared.embedded_redis import EmbeddedRedis
from shared.redis.connection import connect
from shared.store.jobs import JobStore

MODEL, TENANTS, FEW = "demo-llama", 100, 100
PROMPT = "word " * 40
MOST_BYTES, MOST_RATIO = 1500, 1.2
"""What a waiting job may take of Redis, and a submit beside a long queue over one beside a short one."""
FILLERS = 16


class Call(msgspec.Struct, frozen=True):
    """One store call: milliseconds beside a short queue and beside a long one."""

    name: str
    short_p50: float
    long_p50: float
    short_p99: float
    long_p99: float

    @property
    def ratio(self) -> float:
        return over(self.long_p50, self.short_p50)


class Backlog(msgspec.Struct, frozen=True):
    """`bytes_a_job`: what Redis' used memory grew by, over the number of jobs; `greedy` jobs may share."""

    date: str
    machine: Machine
    jobs: int
    tenants: int
    rounds: int
    request_bytes: int
    bytes_a_job: float
    bytes_a_greedy_job: float
    calls: list[Call]


def main() -> int:
    options = _options()
    return run(lambda: _measure_all(options))


def _measure_all(options: argparse.Namespace) -> int:
    machine = look_around()
    with tempfile.TemporaryDirectory(prefix="backlog-") as folder:
        server = EmbeddedRedis(Path(folder))
        server.start()
        try:
            redis: Any = connect(server.url, 10.0)
            short, long, greedy = (
                JobStore(redis, prefix, retention=3600) for prefix in ("short", "long", "greedy")
            )
            grown_greedy = _fill(greedy, max(1, options.jobs // 10), greedy=True)
            redis.flushall()
            _fill(short, FEW)
            grown = _fill(long, options.jobs)
            calls = [_measure(name, short, long, options.rounds) for name in CALLS]
        finally:
            server.stop()
    result = Backlog(
        today(),
        machine,
        options.jobs,
        TENANTS,
        options.rounds,
        len(_request(greedy=False)),
        grown,
        grown_greedy,
        calls,
    )
    publish(result, render(result), options.results, f"{result.date}-backlog")
    return 0


def _options() -> argparse.Namespace:
    options = parser("bench.backlog", __doc__)
    options.add_argument("--jobs", type=int, default=1_000_000)
    options.add_argument("--rounds", type=int, default=2_000)
    return options.parse_args()


def _request(*, greedy: bool) -> bytes:
    params = {"max_new_tokens": 96, "temperature": 0.0 if greedy else 0.8}
    told = checked("text-generation", params).told
    return msgspec.json.encode({"content": PROMPT, "params": told, "seed": secrets.randbits(63)})


def _new(tenant: str, *, greedy: bool = False) -> NewJob:
    """As the API makes it; the digest of a greedy one is nobody else's."""
    return NewJob(
        new_job_id(),
        MODEL,
        tenant,
        _request(greedy=greedy),
        cost=146,
        traceparent=f"00-{secrets.token_hex(16)}-{secrets.token_hex(8)}-01",
        request_id=f"req_{secrets.token_hex(12)}",
        share=Share(secrets.token_urlsafe(32), 3600, 1000, speaks=True) if greedy else None,
    )


def _fill(store: JobStore, jobs: int, *, greedy: bool = False) -> float:
    """The bytes that Redis' used memory grew by, over the number of jobs."""

    def fill(first: int) -> None:
        for number in range(first, jobs, FILLERS):
            store.create(_new(f"tenant-{number % TENANTS}", greedy=greedy), max_queued=2**40)

    before = _used(store)
    with ThreadPoolExecutor(FILLERS) as fillers:
        list(fillers.map(fill, range(FILLERS)))
    return (_used(store) - before) / jobs


def _used(store: JobStore) -> int:
    said: Any = store.redis.info("memory")
    return int(said["used_memory"])


def _drop(_: object) -> None:
    """Undoing has no result."""


def _create(store: JobStore) -> Callable[[], None]:
    job = _new("tenant-1")
    store.create(job, max_queued=2**40)
    return lambda: _drop(store.cancel(job.id))


def _get(store: JobStore) -> Callable[[], None]:
    [job], _ = store.listing("tenant-1", limit=1)
    store.get(job.id)
    return lambda: None


def _claim(store: JobStore) -> Callable[[], None]:
    claims: list[Claim] = store.claim(MODEL, 16, "w").claims
    return lambda: _drop(store.write([Requeue(c.id, c.attempt, "back") for c in claims]))


def _rescue(store: JobStore) -> Callable[[], None]:
    store.rescue(MODEL)
    return lambda: None


CALLS: dict[str, Callable[[JobStore], Callable[[], None]]] = {
    "create": _create,
    "list one and get": _get,
    "claim 16": _claim,
    "rescue": _rescue,
}
"""Each makes one call and returns what undoes it; only the first half is timed."""


def _measure(name: str, short: JobStore, long: JobStore, rounds: int) -> Call:
    call = CALLS[name]
    seconds: dict[JobStore, list[float]] = {short: [], long: []}
    gc.collect()
    for number in range(rounds):
        for store in (short, long) if number % 2 else (long, short):
            began = time.perf_counter()
            undo = call(store)
            seconds[store].append((time.perf_counter() - began) * 1000)
            undo()
    ordered = [sorted(seconds[store]) for store in (short, long)]
    p50, p99 = ([percentile(values, share) for values in ordered] for share in (0.5, 0.99))
    return Call(name, p50[0], p50[1], p99[0], p99[1])


def render(result: Backlog) -> str:
    """The report, as Markdown."""
    lines = [
        f"# {result.jobs:,} waiting jobs, {result.date}",
        "",
        machine_lines(result.machine),
        "",
        f"{result.tenants} tenants, requests of {result.request_bytes} bytes, {result.rounds} calls each, "
        f"taking turns with a queue of {FEW} in the same Redis.",
        "",
        "| figure | reached | goal |",
        "|---|---|---|",
        f"| Redis memory a waiting job, bytes | {result.bytes_a_job:,.0f} | ≤ {MOST_BYTES:,} |",
        f"| the same of a greedy job, bytes | {result.bytes_a_greedy_job:,.0f} | ≤ {MOST_BYTES:,} |",
        f"| create beside the long queue over beside the short one, p50 "
        f"| {result.calls[0].ratio:.2f} × | ≤ {MOST_RATIO} × |",
        "",
        "| call | p50 short, ms | p50 long, ms | ratio | p99 short, ms | p99 long, ms |",
        "|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {c.name} | {c.short_p50:.3f} | {c.long_p50:.3f} | {c.ratio:.2f} × "
        f"| {c.short_p99:.3f} | {c.long_p99:.3f} |"
        for c in result.calls
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
