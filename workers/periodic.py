"""Does a piece of work again and again on a thread, whatever becomes of each time."""

import logging
import threading
from collections.abc import Callable

from shared.domain.errors import StoreUnavailable


class Periodic:
    """Calls `work` every `interval` seconds, on a thread of this name. What it raises is logged to `log`."""

    def __init__(
        self, name: str, interval: float, work: Callable[[], object], log: logging.Logger
    ) -> None:
        self._name = name
        self._interval = interval
        self._work = work
        self._log = log
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Wait for work that is under way, 5 seconds at most."""
        self._stopped.set()
        self._thread.join(timeout=5)

    def _run(self) -> None:
        while not self._stopped.wait(self._interval):
            try:
                self._work()
            except StoreUnavailable as error:
                self._log.warning("the %s has to wait: %s", self._name, error)
            except Exception:  # noqa: BLE001 - the timer must outlive any fault
                self._log.exception("the %s failed, and goes on", self._name)
