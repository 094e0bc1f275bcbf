"""Two bodies a second of as many members as fit into 2 MB: what another client's calls take meanwhile.

Both begin at fixed times, whatever became of those before: a caller who waits for each answer would not begin
while the server stands still, and so not see it.
"""

import statistics
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import httpx

from bench.hostile.row import Figure
from bench.hostile.served import Server, served

TITLE = "member bomb"
CATALOGUE = "models:\n  echo: {engine: echo}\n"
LARGEST = 2 * 1024 * 1024 - 100
SECONDS = 8.0
CALLS_A_SECOND = 10.0
BOMBS_A_SECOND = 2.0
AT_ONCE = 8
ONE_EACH = httpx.Limits(max_connections=None, max_keepalive_connections=0)
"""A connection for each call, so that none finds its own closed."""


def measure(checkout: Path) -> list[Figure]:
    """Median and 95th percentile of `GET /v1/models`, without and under bodies of several kinds."""
    with served(checkout, CATALOGUE) as server:
        figures = _row("at rest", _meanwhile(server, b""))
        for name, bomb in bombs().items():
            figures += _row(name, _meanwhile(server, bomb))
    return figures


def bombs() -> dict[str, bytes]:
    """Bodies by where their members are."""
    members = ",".join(f'"a{number}":1' for number in range(LARGEST // 10))[: LARGEST - 200]
    members = members[: members.rindex(",")]
    model = '{"model":"echo","prompt":"x",'
    return {
        "unknown members": f"{model}{members}}}".encode(),
        "members of metadata": f'{model}"metadata":{{{members}}}}}'.encode(),
    }


def _meanwhile(server: Server, bomb: bytes) -> list[float]:
    """Milliseconds of each call, while `bomb`, if it is one, is sent."""
    headers = {**server.headers, "Content-Type": "application/json"}
    with (
        httpx.Client(
            base_url=server.url, headers=headers, timeout=60, limits=ONE_EACH, trust_env=False
        ) as http,
        ThreadPoolExecutor(AT_ONCE) as bombers,
        ThreadPoolExecutor(int(SECONDS * CALLS_A_SECOND)) as callers,
    ):
        began = time.perf_counter()
        if bomb:
            _spread(bombers, BOMBS_A_SECOND, began, lambda: http.post("/v1/jobs", content=bomb))
        calls = _spread(callers, CALLS_A_SECOND, began, lambda: http.get("/v1/models"))
        return [call.result() for call in calls]


def _spread(
    pool: ThreadPoolExecutor, rate: float, began: float, call: Callable[[], object]
) -> list[Future[float]]:
    """Do something `rate` times a second; milliseconds from when each was due to its end, good or bad."""

    def timed(due: float) -> float:
        time.sleep(max(0.0, due - time.perf_counter()))
        with suppress(httpx.TransportError):
            call()
        return 1000 * (time.perf_counter() - due)

    times = [began + number / rate for number in range(int(SECONDS * rate))]
    return [pool.submit(timed, due) for due in times]


def _row(name: str, took: list[float]) -> list[Figure]:
    return [
        Figure(TITLE, f"p50 of GET /v1/models, {name}", statistics.median(took), "ms"),
        Figure(TITLE, f"p95 of GET /v1/models, {name}", statistics.quantiles(took, n=20)[18], "ms"),
    ]
