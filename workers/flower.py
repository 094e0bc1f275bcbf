"""Every job in Flower: Celery's own task events with the job id as task id, and `revoke` that cancels.

Celery's dispatcher buffers task events; ours leave many at a time (`task.multi`), four times a second,
because one flush a job costs more than all else that the worker does for it. Arguments and
results are redacted: what a user asked and got is nobody's business on an operations page.
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from celery.worker import control
from celery.worker.control import Panel

from shared.errors import JobsError
from shared.hooks import Hooks
from shared.jobs import JobStore
from shared.records import JOB_ID, Claim

REDACTED = "(redacted)"
FLUSH_SECONDS = 0.25
AT_ONCE = 200
BUFFERED = 20_000

_log = logging.getLogger(__name__)
_celery_revoke = control.revoke


class FlowerEvents(Hooks):
    """Sends task events for jobs. `dispatcher` gives the worker's present one, or None.

    The buffer is bounded: when nobody can take the events, the oldest are dropped.
    """

    def __init__(self, model: str, dispatcher: Callable[[], Any]) -> None:
        self._name = f"infer.{model}"
        self._dispatcher = dispatcher
        self._events: deque[tuple[str, dict[str, Any]]] = deque(maxlen=BUFFERED)
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="flower-events", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Send what is left."""
        self._stopped.set()
        self._thread.join(timeout=2)

    def _run(self) -> None:
        while not self._stopped.wait(FLUSH_SECONDS):
            self._flush()
        self._flush()

    def _flush(self) -> None:
        """Hand all that gathered to the dispatcher and let it leave in few messages."""
        dispatcher = self._dispatcher()
        if dispatcher is None or not dispatcher.enabled or not self._events:
            return
        dispatcher.on_send_buffered = None
        dispatcher.buffer_limit = AT_ONCE
        try:
            while self._events:
                event, fields = self._events.popleft()
                dispatcher.send(event, **fields)
            dispatcher.flush()
        except Exception as error:  # noqa: BLE001 - Celery connects anew; the work goes on
            _log.info("events for Flower were not sent (%s)", type(error).__name__)

    def job_claimed(self, claim: Claim) -> None:
        self._send(
            "task-received",
            claim,
            name=self._name,
            args=REDACTED,
            kwargs="{}",
            retries=claim.attempt - 1,
            eta=None,
            expires=None,
            root_id=claim.id,
            parent_id=None,
        )
        self._send("task-started", claim)

    def job_ended(self, claim: Claim, state: str, seconds: float, detail: str) -> None:
        match state:
            case "succeeded":
                self._send("task-succeeded", claim, result=REDACTED, runtime=seconds)
            case "retried" | "fenced":
                self._send("task-retried", claim, exception=detail or state, traceback="")
            case "canceled" | "expired":
                expired = state == "expired"
                self._send("task-revoked", claim, terminated=True, signum="", expired=expired)
            case _:
                self._send("task-failed", claim, exception=detail, traceback="")

    def _send(self, event: str, claim: Claim, **fields: Any) -> None:
        self._events.append((event, {"uuid": claim.id, "timestamp": time.time(), **fields}))


def answer_revoke(store: JobStore) -> None:
    """Make this worker's `revoke` control command cancel jobs; other ids go Celery's own way."""

    def revoke(state: Any, task_id: Any, terminate: bool = False, **kwargs: Any) -> Any:
        ids = [task_id] if isinstance(task_id, str) else list(task_id or ())
        jobs = [job_id for job_id in ids if JOB_ID.fullmatch(job_id)]
        for job_id in jobs:
            try:
                store.cancel(job_id)
            except JobsError as error:
                _log.warning("revoke %s: %s", job_id, error)
        others = [job_id for job_id in ids if job_id not in jobs]
        if others:
            return _celery_revoke(state, others, terminate=terminate, **kwargs)
        return {"ok": f"jobs {', '.join(jobs)} are being canceled"}

    Panel.data["revoke"] = revoke
