"""`python -m bench.limiter`: what a rate limit decision costs, alone and on a route.

The client is a busy one: every slot of its windows holds something. On the route, rounds with and without
limits take turns, so that both meet the same noise.
"""

import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from flask.testing import FlaskClient
from redis import Redis
from redis.connection import Connection, ConnectionPool

from api.app import create_app
from api.services import of
from bench.subjects.ours import CATALOGUE, NO_LIMIT
from shared.domain.quotas import Charge, Policy
from shared.embedded_redis import EmbeddedRedis
from shared.settings import load_settings
from shared.store.keys import Keys
from shared.store.lua_constants import RATE_SLOTS
from shared.store.rate_limits import RateLimiter
from shared.store.token_buckets import TokenBuckets

TOKEN = "bench-token-0123456789"
POLICIES = (Policy("submit", 10**9, 60), Policy("hour", 10**9, 3600), Policy("own", 10**9, 60))
DECISIONS = 3_000
ROUNDS = 15
REQUESTS = 200


class Counting(Connection):
    """Counts what is sent: one round trip each time."""

    sent = 0

    def send_packed_command(self, *args: Any, **kwargs: Any) -> Any:
        Counting.sent += 1
        return super().send_packed_command(*args, **kwargs)  # type: ignore[no-untyped-call]


def main() -> None:
    """Measure and print a table in Markdown."""
    print(f"load {os.getloadavg()[0]:.2f} on {os.cpu_count()} cores\n")
    print("| decision | policies | µs | of these in Redis | round trips |\n|---|---|---|---|---|")
    for count in (1, 2, 3):
        print(f"| in this process | {count} | {_local(count):.1f} | 0 | 0 |")
    with tempfile.TemporaryDirectory() as folder, _redis(Path(folder)) as redis:
        for count in (1, 2, 3):
            took, inside, trips = _shared(redis, count)
            print(f"| in Redis | {count} | {took:.1f} | {inside:.1f} | {trips:g} |")
        plain, limited = _routes(redis, Path(folder))
    print("\n| `POST /v1/jobs`, in one process | µs |\n|---|---|")
    print(
        f"| without limits | {plain:.0f} |\n| with a limit a minute and one an hour | {limited:.0f} |"
    )
    print(f"\nRatio {limited / plain:.3f}: medians of {ROUNDS} rounds of {REQUESTS} requests each.")


def _local(count: int) -> float:
    buckets, charges = TokenBuckets(), _charges(count)
    now = time.time_ns() // 1_000_000
    return _microseconds(lambda: buckets.take("c", charges, now))


def _shared(redis: EmbeddedRedis, count: int) -> tuple[float, float, float]:
    """Microseconds a decision, those that the script ran, and round trips."""
    pool = ConnectionPool.from_url(redis.url)
    pool.connection_class = Counting
    now = [time.time_ns() // 1_000_000]
    client = Redis(connection_pool=pool)
    limiter = RateLimiter(client, Keys(f"bench{count}"), clock=lambda: now[0])
    charges = _charges(count)
    for _ in range(RATE_SLOTS):
        now[0] += 1000
        limiter.take("c", charges)
    client.config_resetstat()
    before = Counting.sent
    took = _microseconds(lambda: limiter.take("c", charges))
    trips = (Counting.sent - before) / DECISIONS
    stats: Any = client.info("commandstats")
    return took, stats["cmdstat_evalsha"]["usec_per_call"], trips


def _routes(redis: EmbeddedRedis, folder: Path) -> tuple[float, float]:
    """Median microseconds a request of the route without and with limits."""
    with _client(redis, folder, "0") as plain, _client(redis, folder, NO_LIMIT) as limited:
        rounds = [[_round(client) for client in (plain, limited)] for _ in range(ROUNDS)]
    first, second = zip(*rounds, strict=True)
    return statistics.median(first), statistics.median(second)


def _round(client: FlaskClient) -> float:
    began = time.perf_counter()
    for _ in range(REQUESTS):
        status = client.post("/v1/jobs", json={"model": "echo", "prompt": "x"}).status_code
        if status != 202:
            raise RuntimeError(f"a job was answered with {status}")
    return (time.perf_counter() - began) / REQUESTS * 1e6


def _microseconds(decide: Callable[[], object]) -> float:
    began = time.perf_counter()
    for _ in range(DECISIONS):
        decide()
    return (time.perf_counter() - began) / DECISIONS * 1e6


def _charges(count: int) -> list[Charge]:
    return [Charge(policy) for policy in POLICIES[:count]]


@contextmanager
def _redis(folder: Path) -> Iterator[EmbeddedRedis]:
    redis = EmbeddedRedis(folder)
    redis.start()
    try:
        yield redis
    finally:
        redis.stop()


@contextmanager
def _client(redis: EmbeddedRedis, folder: Path, rpm: str) -> Iterator[FlaskClient]:
    catalogue = folder / "catalog.yaml"
    catalogue.write_text(CATALOGUE, "utf-8")
    settings = load_settings(
        TRUTHGPT_API_TOKEN=TOKEN,
        TRUTHGPT_CONFIG=catalogue,
        REDIS_URL=redis.url,
        RATE_LIMIT_RPM=rpm,
        RATE_LIMIT_RPH=rpm,
        TRUTHGPT_KEY_PREFIX=f"route{rpm}",
    )
    app = create_app(settings, ring=lambda _: None)
    client = app.test_client()
    client.environ_base["HTTP_AUTHORIZATION"] = f"Bearer {TOKEN}"
    try:
        yield client
    finally:
        of(app).close()


if __name__ == "__main__":
    main()
