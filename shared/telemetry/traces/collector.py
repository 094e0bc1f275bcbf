"""Whether somebody takes our traces: found in a thread of its own, so that nobody ever waits for it."""

import logging
import socket
import threading
from collections.abc import Callable
from urllib.parse import urlsplit

LOOK_SECONDS = 10.0
CONNECT_SECONDS = 1.0
PORTS = {"http": 80, "https": 443, "grpc": 4317, "grpcs": 4317}

_log = logging.getLogger(__name__)


class Collector:
    """An OTLP endpoint. While nothing answers there `present` is false and nothing is recorded.

    `found` is called, in this thread, before `present` turns true. One line is logged when the
    collector is missed, and one when it has taken something.
    """

    def __init__(
        self, endpoint: str, found: Callable[[], None], interval: float = LOOK_SECONDS
    ) -> None:
        self.endpoint = endpoint
        self.present = False
        parts = urlsplit(endpoint)
        self._address = (parts.hostname or "localhost", parts.port or PORTS[parts.scheme])
        self._found = found
        self._interval = interval
        self._stopped = threading.Event()
        self._looked = threading.Event()
        self._missed = False
        self._sent = False
        self._thread = threading.Thread(target=self._run, name="otlp-collector", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def await_look(self, seconds: float) -> bool:
        """Wait until it has been looked for once, and what it begins has begun; at most so long."""
        return self._looked.wait(seconds)

    def stop(self) -> None:
        self._stopped.set()
        self._thread.join(timeout=2 * CONNECT_SECONDS)

    def sent(self) -> None:
        """Note that the collector has taken what it was sent."""
        if not self._sent:
            _log.info("traces go to %s", self.endpoint)
        self._sent, self._missed = True, False

    def lost(self) -> None:
        """Note that the collector took nothing: no spans are recorded until it is found again."""
        level = logging.WARNING if self._sent else logging.INFO
        self.present = self._sent = False
        if not self._missed:
            self._missed = True
            said = "no traces are kept: nothing takes them at %s; tried again every %g s"
            _log.log(level, said, self.endpoint, self._interval)

    def _run(self) -> None:
        while True:
            if not self.present:
                self._look()
                self._looked.set()
            if self._stopped.wait(self._interval):
                return

    def _look(self) -> None:
        try:
            socket.create_connection(self._address, CONNECT_SECONDS).close()
        except OSError:
            self.lost()
            return
        try:
            self._found()
        except Exception:  # noqa: BLE001 - without traces the work goes on
            _log.exception("traces cannot be kept")
            self._stopped.set()
            return
        self.present = True
