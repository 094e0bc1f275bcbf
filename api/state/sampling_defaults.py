"""How a model samples by its own generation settings, as its workers tell."""

import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from shared.domain.errors import StoreUnavailable
from shared.store.jobs import JobStore

FRESH = 30.0
"""Seconds between two looks at what a model's workers tell."""


class SamplingDefaults:
    """The settings of the models, each at most `FRESH` seconds old. Safe to share between threads."""

    def __init__(self, store: JobStore, clock: Callable[[], float] = time.monotonic) -> None:
        self._store = store
        self._clock = clock
        self._lock = threading.Lock()
        self._known: dict[str, tuple[float, Mapping[str, Any]]] = {}
        """By model; bounded by the catalogue."""

    def of(self, model: str) -> Mapping[str, Any]:
        """`temperature`, `top_p` and the like by transformers' names; empty where nobody tells."""
        now = self._clock()
        with self._lock:
            seen, told = self._known.get(model, (now - FRESH, {}))
        if now - seen < FRESH:
            return told
        try:
            workers = self._store.status(model).workers
        except StoreUnavailable:
            return told
        # All read the same files; the first by name, so that the answer stays the same.
        reports = (_settings(report) for _, report in sorted(workers.items()))
        told = next((one for one in reports if one), told)
        with self._lock:
            self._known[model] = (now, told)
        return told


def _settings(report: Mapping[str, Any]) -> Mapping[str, Any]:
    engine = report.get("engine")
    settings = engine.get("generation_config") if isinstance(engine, Mapping) else None
    found = settings.get("not_applied") if isinstance(settings, Mapping) else None
    return found if isinstance(found, Mapping) else {}
