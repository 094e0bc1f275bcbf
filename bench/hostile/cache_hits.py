"""A thousand requests that the cache answers with one large result: what Redis holds of them for a day."""

import tempfile
from pathlib import Path
from typing import Any

import httpx

from bench.hostile.row import Figure
from bench.hostile.served import Server, served
from shared.embedded_redis import EmbeddedRedis
from shared.redis.connection import connect

TITLE = "1,000 cache hits"
CATALOGUE = "models:\n  echo: {engine: echo, cache: {deterministic: true}}\n"
HITS = 1000
SIZES = {"6 kB": 6_000, "60 kB": 60_000}


def measure(checkout: Path) -> list[Figure]:
    """Bytes that a hit adds to Redis' memory, for results of several sizes."""
    with tempfile.TemporaryDirectory(prefix="hits-") as folder:
        redis = EmbeddedRedis(Path(folder), loopback=True)  # Older checkouts know no sockets.
        redis.start()
        try:
            with served(checkout, CATALOGUE, {"REDIS_URL": redis.url}) as server:
                return [_row(name, size, server, redis.url) for name, size in SIZES.items()]
        finally:
            redis.stop()


def _row(name: str, size: int, server: Server, url: str) -> Figure:
    body = {"model": "echo", "prompt": "x" * size}
    # The first is worked out, the second found: what is done once is done.
    for _ in range(2):
        server.http.post("/v1/infer", json=body).raise_for_status()
    with connect(url, 10.0) as redis:
        before = _used(redis)
        hits = 0
        while hits < HITS:
            try:
                answer = server.http.post("/v1/jobs", json=body)
            except (httpx.ReadError, httpx.RemoteProtocolError):
                # An idle connection that the server has just closed.
                continue
            if not answer.json().get("cached"):
                raise RuntimeError(f"no hit: {answer.status_code} {answer.text[:200]}")
            hits += 1
        grown = _used(redis) - before
    return Figure(TITLE, f"Redis memory a hit, result of {name}", grown / HITS, "bytes")


def _used(redis: Any) -> int:
    return int(redis.info("memory")["used_memory"])
