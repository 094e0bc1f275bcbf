"""The history that Prometheus keeps, for charts of more than the hour that the store does."""

import math
import threading
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    import httpx

POINTS = 120
"""Of a chart, at the most."""
TIMEOUT = 3.0
"""Seconds for one of the questions, all in all; they are asked one after the other."""
MOST_BYTES = 256 * 1024
"""Of one answer: a few columns of numbers."""
KEPT = 30.0
"""Seconds for which an answer, or that there was none, is told again, however many pages look."""
RANGES = (6, 24, 168)
"""Hours that can be asked for."""
QUERIES = {
    "ended": 'sum(rate(inference_attempts_total{end=~"succeeded|failed|canceled|expired"}[%s]))',
    "failed": 'sum(rate(inference_attempts_total{end="failed"}[%s]))',
    "tokens": 'sum(rate(inference_tokens_total{direction="completion"}[%s]))',
    "p50": "1000 * histogram_quantile(0.5, sum by (le) (rate(inference_run_seconds_bucket[%s])))",
    "p95": "1000 * histogram_quantile(0.95, sum by (le) (rate(inference_run_seconds_bucket[%s])))",
    "wait": "1000 * histogram_quantile(0.95, sum by (le) "
    "(rate(inference_queue_wait_seconds_bucket[%s])))",
}

Columns = Mapping[str, Sequence[float | None]]


class PrometheusAway(Exception):
    """Prometheus does not answer, or not what was asked. The message says which."""


class Prometheus:
    """Asks one Prometheus. Safe to share between threads: one asks, the others wait for what it gets."""

    def __init__(self, url: str) -> None:
        self._url = f"{url.removesuffix('/')}/api/v1/query_range"
        self._lock = threading.Lock()
        self._known: dict[int, tuple[float, Columns | PrometheusAway]] = {}

    def read(self, hours: int) -> Columns:
        """Columns of numbers by their names, and `at`: seconds since 1970. `hours` is one of `RANGES`.

        Raises `PrometheusAway`.
        """
        with self._lock:
            asked, told = self._known.get(hours, (-math.inf, {}))
            if time.monotonic() - asked > KEPT:
                try:
                    told = self._ask(hours)
                except PrometheusAway as error:
                    told = error
                self._known[hours] = time.monotonic(), told
        if isinstance(told, PrometheusAway):
            raise told
        return told

    def _ask(self, hours: int) -> Columns:
        # It takes long to load, and few servers have a Prometheus.
        import httpx

        step = max(60, 3600 * hours // POINTS)
        end = int(time.time()) // step * step
        at = list(range(end - 3600 * hours, end + 1, step))
        window = f"{max(300, 2 * step)}s"
        span = {"start": str(at[0]), "end": str(end), "step": str(step)}
        try:
            with httpx.Client(timeout=TIMEOUT, follow_redirects=False, trust_env=False) as client:
                return {
                    "at": at,
                    **{
                        name: self._column(client, at, {"query": query % window, **span})
                        for name, query in QUERIES.items()
                    },
                }
        except (httpx.HTTPError, ValueError, LookupError, TypeError) as error:
            raise PrometheusAway(str(error) or type(error).__name__) from error

    def _column(
        self, client: "httpx.Client", at: Sequence[int], asked: Mapping[str, str]
    ) -> list[float | None]:
        """The value of one query at each of these moments."""
        ends = time.monotonic() + TIMEOUT
        body = bytearray()
        with client.stream("GET", self._url, params=asked) as answer:
            answer.raise_for_status()
            for piece in answer.iter_bytes():
                body += piece
                if len(body) > MOST_BYTES or time.monotonic() > ends:
                    raise ValueError("The answer is too long, or takes too long.")
        told: Any = msgspec.json.decode(bytes(body))
        series = told["data"]["result"]
        values = {
            int(moment): float(value) for moment, value in (series[0]["values"] if series else [])
        }
        found = (values.get(moment) for moment in at)
        return [None if value is None or not math.isfinite(value) else value for value in found]
