"""What the API says of its requests."""

from collections import Counter, defaultdict, deque
from collections.abc import Collection, Iterable, Iterator
from typing import Any, TypeVar

from shared.hooks import Hooks
from shared.telemetry.metrics.instruments import Instruments

OTHER = "other"
MOST = 4096
"""Beginnings and ends of requests that are kept until the next tick; with more the tick comes at once."""
_UNKNOWN = (OTHER, OTHER)
T = TypeVar("T")


class RequestMetrics(Hooks):
    """Counts and times requests by route. `routes` are (method, path template) pairs.

    All series exist from the start, so that a ratio of two of them always has data; a path that is
    not in `routes` counts as `other`, whatever it is.

    What requests do is written at each tick: a series costs a lock and a write to a mapped file, and a
    request touches five.
    """

    def __init__(
        self,
        instruments: Instruments,
        routes: Collection[tuple[str, str]],
        models: Iterable[str],
    ) -> None:
        known = [*routes, _UNKNOWN]
        self._requests = instruments.children("inference_requests_total", known)
        self._client_errors = instruments.children("inference_errors_4xx_total", known)
        self._server_errors = instruments.children("inference_errors_5xx_total", known)
        self._durations = instruments.children("inference_request_duration_ms", known)
        self._active = instruments.children("inference_active_connections", known)
        self._limited = instruments.children("rate_limit_hits_total", known)
        self._alone = instruments["rate_limit_local_decisions_total"]
        # Taken from and added to without a lock: each step is one operation of the interpreter.
        self._began: deque[tuple[str, str]] = deque()
        self._ended: deque[tuple[str, str, int, float]] = deque()
        names = [(model,) for model in models]
        self._lookups = {
            "hit": instruments.children("inference_cache_hits_total", names),
            "shared": instruments.children("inference_cache_shared_total", names),
            "miss": instruments.children("inference_cache_misses_total", names),
        }

    def request_began(self, method: str, endpoint: str) -> None:
        self._began.append((method, endpoint))
        if len(self._began) >= MOST:
            self.tick()

    def request_ended(self, method: str, endpoint: str, status: int, seconds: float) -> None:
        self._ended.append((method, endpoint, status, seconds))

    def tick(self) -> None:
        """Write down what happened since the last one."""
        durations: dict[tuple[str, str], list[float]] = defaultdict(list)
        client_errors: Counter[tuple[str, str]] = Counter()
        server_errors: Counter[tuple[str, str]] = Counter()
        # Ends first: one that comes meanwhile may be of a request whose beginning is still to be taken.
        for method, endpoint, status, seconds in _taken(self._ended):
            route = (method, endpoint)
            durations[route].append(seconds * 1000)
            if status >= 500:
                server_errors[route] += 1
            elif status >= 400:
                client_errors[route] += 1
        active = Counter(_taken(self._began))
        active.subtract({route: len(taken) for route, taken in durations.items()})
        for route, change in active.items():
            if change:
                _of(self._active, *route).inc(change)
        for route, taken in durations.items():
            _of(self._requests, *route).inc(len(taken))
            _of(self._durations, *route).observe_all(taken)
        for series, counts in (
            (self._client_errors, client_errors),
            (self._server_errors, server_errors),
        ):
            for route, count in counts.items():
                _of(series, *route).inc(count)

    def request_limited(self, method: str, endpoint: str, policy: str) -> None:  # noqa: ARG002
        _of(self._limited, method, endpoint).inc()

    def result_looked_up(self, model: str, found: str) -> None:
        self._lookups[found][(model,)].inc()

    def limiter_local(self) -> None:
        self._alone.inc()


def _taken(waiting: deque[T]) -> Iterator[T]:
    try:
        for _ in range(len(waiting)):
            yield waiting.popleft()
    except IndexError:
        # Another thread's tick has taken the rest.
        return


def _of(series: dict[tuple[str, ...], Any], method: str, endpoint: str) -> Any:
    return series.get((method, endpoint)) or series[_UNKNOWN]
