"""What the API says of its requests."""

from collections.abc import Collection, Iterable
from typing import Any

from shared.hooks import Hooks
from shared.telemetry.instruments import Instruments

OTHER = "other"
_UNKNOWN = (OTHER, OTHER)


class RequestMetrics(Hooks):
    """Counts and times requests by route. `routes` are (method, path template) pairs.

    All series exist from the start, so that a ratio of two of them always has data; a path that is
    not in `routes` counts as `other`, whatever it is.
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
        names = [(model,) for model in models]
        self._lookups = {
            "hit": instruments.children("inference_cache_hits_total", names),
            "shared": instruments.children("inference_cache_shared_total", names),
            "miss": instruments.children("inference_cache_misses_total", names),
        }

    def request_began(self, method: str, endpoint: str) -> None:
        _of(self._active, method, endpoint).inc()

    def request_ended(self, method: str, endpoint: str, status: int, seconds: float) -> None:
        _of(self._active, method, endpoint).dec()
        _of(self._requests, method, endpoint).inc()
        _of(self._durations, method, endpoint).observe(seconds * 1000)
        if status >= 500:
            _of(self._server_errors, method, endpoint).inc()
        elif status >= 400:
            _of(self._client_errors, method, endpoint).inc()

    def request_limited(self, method: str, endpoint: str, policy: str) -> None:  # noqa: ARG002
        _of(self._limited, method, endpoint).inc()

    def result_looked_up(self, model: str, found: str) -> None:
        self._lookups[found][(model,)].inc()

    def limiter_local(self) -> None:
        self._alone.inc()


def _of(series: dict[tuple[str, ...], Any], method: str, endpoint: str) -> Any:
    return series.get((method, endpoint)) or series[_UNKNOWN]
