"""Shows jobs in Flower by Celery's task events with the job id as task id; `revoke` cancels a job.

Events gather and leave many to a message (`task.multi`), four times a second, over the producer of Celery's
dispatcher: its `send` alone, once an event, would cost more than all else that the worker does for a job.
Arguments and results are redacted: what a user asked and got is nobody's business on an operations page.
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any

import msgspec
from celery.utils.time import utcoffset
from celery.worker import control
from celery.worker.control import Panel

from shared.domain.errors import JobsError
from shared.domain.records import JOB_ID, Claim
from shared.hooks import Hooks
from shared.store.jobs import JobStore

REDACTED = "(redacted)"
FLUSH_SECONDS = 0.25
AT_ONCE = 500
"""Events that one message to Flower may hold."""
BUFFERED = 20_000

_SCALE = (
    "A worker serves its model from one engine with one thread for doorbells: start more workers of the "
    "model, or raise batch.max_size in the catalogue."
)
_LIMITS = (
    "Jobs are no Celery tasks: their bounds are run_timeout, step_timeout and expires_in (docs/faults.md), "
    "their rates RATE_LIMIT_* (docs/limits.md)."
)
IDLE_CONTROLS = {
    "pool_grow": _SCALE,
    "pool_shrink": _SCALE,
    "autoscale": _SCALE,
    "pool_restart": "A worker has no pool to restart: shut it down, and its supervisor starts it anew.",
    "rate_limit": _LIMITS,
    "time_limit": _LIMITS,
}
"""Celery's control commands that do nothing here, and what to do instead."""

TaskEvent = tuple[str, str, float, dict[str, Any]]
"""An event's type, the job's id, when it happened (s since 1970), and fields of that type."""

_log = logging.getLogger(__name__)
_encode = msgspec.json.Encoder().encode
_celery_revoke = control.revoke


class FlowerEvents(Hooks):
    """Sends task events for jobs. `dispatcher` gives the worker's present one, or None.

    The buffer is bounded: when nobody can take the events, the oldest are dropped.
    """

    def __init__(self, model: str, dispatcher: Callable[[], Any]) -> None:
        self._name = f"infer.{model}"
        self._dispatcher = dispatcher
        self._events: deque[TaskEvent] = deque(maxlen=BUFFERED)
        self._leaving: list[TaskEvent] = []
        """Taken out of the buffer, and not sent yet. Touched by the thread alone."""
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
        """Send all that gathered. What does not leave is tried again with the next."""
        dispatcher = self._dispatcher()
        if dispatcher is None or not dispatcher.enabled:
            return
        if dispatcher.groups and "task" not in dispatcher.groups:
            # An operator has turned them off (`celery control disable_events`).
            self._events.clear()
            return
        try:
            while self._leaving or self._events:
                while self._events and len(self._leaving) < AT_ONCE:
                    self._leaving.append(self._events.popleft())
                _publish(dispatcher, self._leaving)
                self._leaving = []
        except Exception as error:  # noqa: BLE001 - Celery connects anew; the work goes on
            _log.info("events for Flower were not sent (%s)", type(error).__name__)

    def job_claimed(self, claim: Claim) -> None:
        received = {
            "name": self._name,
            "args": REDACTED,
            "kwargs": "{}",
            "retries": claim.attempt - 1,
        }
        self._happened("task-received", claim, received)
        self._happened("task-started", claim, {})

    def job_ended(self, claim: Claim, state: str, seconds: float, detail: str) -> None:
        fields: dict[str, Any]
        match state:
            case "succeeded":
                event, fields = "task-succeeded", {"result": REDACTED, "runtime": seconds}
            case "retried" | "fenced":
                event, fields = "task-retried", {"exception": detail or state, "traceback": ""}
            case "canceled" | "expired":
                event = "task-revoked"
                fields = {"terminated": True, "signum": "", "expired": state == "expired"}
            case _:
                event, fields = "task-failed", {"exception": detail, "traceback": ""}
        self._happened(event, claim, fields)

    def _happened(self, event: str, claim: Claim, fields: dict[str, Any]) -> None:
        self._events.append((event, claim.id, time.time(), fields))


def _publish(dispatcher: Any, events: list[TaskEvent]) -> None:
    """Send events as `EventDispatcher.flush` would, encoded once. Raises what kombu raises."""
    sender = {
        "hostname": dispatcher.hostname,
        "utcoffset": utcoffset(),
        "pid": dispatcher.pid,
        "clock": dispatcher.clock.forward(),
    }
    body = [
        {"type": event, "uuid": job_id, "timestamp": at, **sender, **fields}
        for event, job_id, at, fields in events
    ]
    with dispatcher.mutex:
        dispatcher.producer.publish(
            _encode(body),
            routing_key="task.multi",
            exchange=dispatcher.exchange.name,
            declare=[dispatcher.exchange],
            content_type="application/json",
            content_encoding="utf-8",
            headers=dispatcher.headers,
            delivery_mode=dispatcher.delivery_mode,
        )


def refuse_idle_controls() -> None:
    """Answer the control commands that would do nothing here, or harm, with what to do instead.

    For Flower's buttons and `celery control` alike: both show the sentence.
    """
    for command, sentence in IDLE_CONTROLS.items():
        Panel.data[command] = partial(_refused, sentence)


def _refused(sentence: str, _state: Any, **_: Any) -> dict[str, str]:
    return {"error": sentence}


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
