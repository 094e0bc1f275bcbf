"""A process's age, CPU and memory; and the clock that keeps such gauges up to date."""

import logging
import threading
import time
from collections.abc import Callable, Sequence

import psutil

from shared.telemetry.metrics.instruments import Instruments

TICK_SECONDS = 1.0

_log = logging.getLogger(__name__)


class ProcessMetrics:
    """Gauges of one process; `process` names its part. `pid` gives None while there is none."""

    def __init__(
        self, instruments: Instruments, process: str, pid: Callable[[], int | None]
    ) -> None:
        self._pid = pid
        self._process: psutil.Process | None = None
        self._uptime = instruments.child("process_uptime_seconds", process)
        self._cpu = instruments.child("process_cpu_percent", process)
        self._memory = instruments.child("process_memory_bytes", process)

    def tick(self) -> None:
        """Look once. A process that is gone counts nothing."""
        pid = self._pid()
        try:
            if pid is None:
                raise psutil.NoSuchProcess(0)
            if self._process is None or self._process.pid != pid:
                self._process = psutil.Process(pid)
            process = self._process
            with process.oneshot():
                uptime = time.time() - process.create_time()
                cpu, memory = process.cpu_percent(), process.memory_info().rss
        except psutil.Error:
            self._process = None
            uptime, cpu, memory = 0.0, 0.0, 0
        self._uptime.set(max(0.0, uptime))
        self._cpu.set(cpu)
        self._memory.set(memory)


class Ticker:
    """Calls each of `ticks` every second, in a thread of its own."""

    def __init__(self, ticks: Sequence[Callable[[], None]], interval: float = TICK_SECONDS) -> None:
        self._ticks = ticks
        self._interval = interval
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="metrics", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopped.set()
        self._thread.join(timeout=2)

    def _run(self) -> None:
        while True:
            for tick in self._ticks:
                try:
                    tick()
                except Exception:  # noqa: BLE001 - an observer must never break the work
                    _log.exception("a gauge could not be read")
            if self._stopped.wait(self._interval):
                return
