"""Observers of the work: logs, metrics, traces and Flower's events hang here and never inside the logic.

Subclass `Hooks`, override what you want to see. A broken observer is logged and breaks nothing.
"""

import logging
from collections.abc import Callable, Sequence
from typing import Any

_log = logging.getLogger(__name__)


class Hooks:
    """What can be observed. Every method does nothing here."""

    def job_claimed(self, claim: Any) -> None:
        """A worker holds a new attempt (`shared.domain.records.Claim`)."""

    def batch_claimed(self, model: str, claims: Sequence[Any], seconds: float) -> None:
        """The store handed out attempts (`shared.domain.records.Claim`); asking for them took so long."""

    def job_admitted(self, claim: Any) -> None:
        """The attempt goes to the engine."""

    def job_ended(self, claim: Any, state: str, seconds: float, detail: str) -> None:
        """An attempt ended: `state` is a JobState, or `retried` or `fenced`."""

    def batch_ended(self, model: str, ends: Sequence[tuple[Any, str, float, str]]) -> None:
        """Attempts ended, as they were written together: of each what `job_ended` was told."""

    def batch_spoke_first(self, model: str, seconds: Sequence[float]) -> None:
        """The first pieces of jobs' outputs came in one step, so long after each job was made."""

    def drain_started(self, model: str) -> None:
        """A doorbell was answered."""

    def webhook_delivered(self, model: str, outcome: str, seconds: float, attempt: int) -> None:
        """A send was recorded: `delivered`, `retry` or `dead`; how long it took, its attempt's number."""

    def batch_answered(self, done: int, bad: int) -> None:
        """Lines of a batch have their answers: so many succeeded, so many did not."""

    def batch_ended_as(self, status: str) -> None:
        """A batch is `completed`, `failed`, `expired` or `cancelled`."""

    def batch_step_broke(self, status: str) -> None:
        """A step of a batch with this status failed, for a reason that is no outage."""

    def engine_changed(self, model: str, state: str, detail: str) -> None:
        """The engine host is starting, ready, unhealthy, failed or stopped."""

    def engine_stepped(self, model: str, step: Any) -> None:
        """A step brought something (`workers.host_protocol.messages.Stepped`)."""

    def engine_lost(self, model: str, reason: str) -> None:
        """The engine host died with all that it held."""

    def jobs_rescued(self, model: str, rescued: Any) -> None:
        """A round of the rescuer over a model (`shared.domain.records.Rescued`)."""

    def request_began(self, method: str, endpoint: str) -> None:
        """The API takes a request; `endpoint` is the path of its route, not that of the request."""

    def request_ended(self, method: str, endpoint: str, status: int, seconds: float) -> None:
        """The last byte of an answer has been handed to the server."""

    def breaker_changed(self, model: str, scope: str, old: str, new: str) -> None:
        """A circuit breaker is `closed`, `open` or `half_open` now. `scope` is `model` for the one that all
        workers share, told by the worker that changed it, and `worker` for this worker's own."""

    def retry_delayed(self, model: str) -> None:
        """The model's retry budget is spent: a failed job waits for its turn to be tried again."""

    def estimate_error(self, model: str, seconds: float) -> None:
        """A job that had waited started, `seconds` later than was estimated when it was made."""

    def result_looked_up(self, model: str, found: str) -> None:
        """A request that may share results was taken in: `hit`, `shared` (with a job under way), `miss`."""

    def request_limited(self, method: str, endpoint: str, policy: str) -> None:
        """A request was refused because its client had used up `policy`."""

    def limiter_local(self) -> None:
        """Redis was away and this process alone decided on a request."""


class Observers:
    """Calls a hook on every observer in turn: on those that override it, found once."""

    def __init__(self, *observers: Hooks) -> None:
        self._observers = observers
        self._listening = _listening(observers)

    def add(self, observer: Hooks) -> None:
        """Let one more see what happens from now on."""
        self._observers = (*self._observers, observer)
        self._listening = _listening(self._observers)

    def emit(self, hook: str, *args: Any) -> None:
        """Call `hook` with `args` on every observer."""
        for listen in self._listening[hook]:
            try:
                listen(*args)
            except Exception:  # noqa: BLE001 - an observer must never break the work
                _log.exception("observer %s broke", listen.__qualname__)


def _listening(observers: Sequence[Hooks]) -> dict[str, list[Callable[..., None]]]:
    """By hook, the methods of those that override it."""
    hooks = {name: silent for name, silent in vars(Hooks).items() if not name.startswith("_")}
    return {
        name: [getattr(seer, name) for seer in observers if getattr(type(seer), name) is not silent]
        for name, silent in hooks.items()
    }
