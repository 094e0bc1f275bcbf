"""What a worker's log says of jobs. Each line names its job, for one thread serves many."""

import logging
from typing import Any

from shared.context import TRACEPARENT
from shared.hooks import Hooks

_LEVELS = {"succeeded": logging.DEBUG, "failed": logging.WARNING, "fenced": logging.WARNING}
_log = logging.getLogger("truthgpt.jobs")


class JobLog(Hooks):
    """Jobs that succeed are told of at DEBUG, others at INFO or above. `prompts`: with what was asked."""

    def __init__(self, *, prompts: bool) -> None:
        self._prompts = prompts

    def job_claimed(self, claim: Any) -> None:
        if self._prompts:
            asked = claim.request.decode("utf-8", "replace")
            _log.info("job claimed", extra={**about(claim), "request": asked})
        elif _log.isEnabledFor(logging.DEBUG):
            _log.debug("job claimed", extra=about(claim))

    def job_ended(self, claim: Any, state: str, seconds: float, detail: str) -> None:
        level = _LEVELS.get(state, logging.INFO)
        if _log.isEnabledFor(level):
            ended = {"state": state, "seconds": round(seconds, 4), "why": detail}
            _log.log(level, "job ended", extra={**about(claim), **ended})


def about(claim: Any) -> dict[str, Any]:
    """The members that name an attempt."""
    named = {
        "job": claim.id,
        "attempt": claim.attempt,
        "tenant": claim.tenant,
        "request_id": claim.request_id,
        TRACEPARENT: claim.traceparent,
    }
    return {name: value for name, value in named.items() if value}
