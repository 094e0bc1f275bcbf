"""Works on batches until it is told to stop: `python -m api.batches`.

Several may run, on one machine or on many: each batch is claimed by one of them, for one step at a time.
"""

import logging
import os
import signal
import sys
import threading

from api.app import create_app
from api.batches.steps import Steps
from api.services import Services, of
from shared.domain.errors import ConfigError, JobsError
from shared.faults import faults
from shared.redis.guard import require_fit
from shared.settings import Settings, load_settings
from shared.surroundings import shed
from shared.telemetry import logs

THREADS = 4
"""Batches that are worked on at once: one whose input is read for long holds up no other."""
IDLE, BROKEN = 0.5, 5.0
"""Seconds to the next look where no batch is due, and where something failed."""

_log = logging.getLogger(__name__)


class BatchRunner:
    """Steps of batches, one after the other, on a few threads."""

    def __init__(self, steps: Steps, threads: int = THREADS) -> None:
        self._steps = steps
        self._stopped = threading.Event()
        self._threads = [
            threading.Thread(target=self._run, name=f"batches {number}")
            for number in range(threads)
        ]

    def run(self) -> None:
        """Work until `stop`; then end the steps that are under way."""
        for thread in self._threads:
            thread.start()
        for thread in self._threads:
            thread.join()

    def stop(self) -> None:
        """Safe in a signal handler."""
        self._stopped.set()

    def _run(self) -> None:
        while not self._stopped.is_set():
            pause = IDLE
            try:
                if self._steps.step():
                    continue
            except JobsError as error:
                _log.warning("batches have to wait: %s", error)
            except Exception:  # noqa: BLE001 - the lease ends, and the step is tried again
                _log.exception("a step of a batch broke")
                pause = BROKEN
            self._stopped.wait(pause)


def main() -> int:
    """Run the process of batches until a signal ends it. Returns the exit status."""
    shed("batches")
    faults.arm(os.environ)
    try:
        settings = load_settings()
        require_fit(settings.require_redis(), settings.redis_timeout, settings.key_prefix)
        services = of(create_app(settings))
    except ConfigError as error:
        sys.stderr.write(f"truthgpt: {error}\n")
        return 4
    logs.configure(settings, "batches")
    runner = BatchRunner(Steps(services, settings.batch_jobs))
    for signum in (signal.SIGTERM, signal.SIGINT):
        signal.signal(signum, lambda *_: runner.stop())
    _keep_metrics(settings, services)
    _log.info("works on batches")
    runner.run()
    services.close()
    return 0


def _keep_metrics(settings: Settings, services: Services) -> None:
    if not settings.enable_metrics:
        return
    from shared.telemetry.metrics.site import Site

    site = Site(settings, "batches")
    services.observers.add(site.batches())
    site.start(serving=True)
    services.closers.append(site.stop)


if __name__ == "__main__":
    sys.exit(main())
