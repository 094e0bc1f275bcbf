"""Doorbells are pushed by one thread of their own: a broker that hangs holds no request up."""

import logging
import queue
import threading
from collections.abc import Callable

from shared import context

Ring = Callable[[str], object]

_log = logging.getLogger(__name__)


class Notifier:
    """Rings for models, one after the other. A ring that fails is the rescuer's to repeat."""

    def __init__(self, ring: Ring) -> None:
        self._ring = ring
        self._models: queue.SimpleQueue[tuple[str, str] | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def ring(self, model: str) -> None:
        """Push a doorbell for a model, soon. Never blocks, never raises."""
        self._models.put((model, context.traceparent()))
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="notifier", daemon=True)
                self._thread.start()

    def stop(self, timeout: float = 2.0) -> None:
        """Push what is still to be pushed, within `timeout` seconds."""
        with self._lock:
            thread, self._thread = self._thread, None
        if thread is not None:
            self._models.put(None)
            thread.join(timeout)

    def _run(self) -> None:
        while (wanted := self._models.get()) is not None:
            model, traceparent = wanted
            try:
                with context.binding(traceparent=traceparent):
                    self._ring(model)
            except Exception as error:  # noqa: BLE001 - costs latency, never a job
                _log.warning("doorbell for %s failed (%s)", model, type(error).__name__)
