"""Turns an error over a job's input into the outcome with which the job is refused."""

import logging

from shared.domain.errors import InputRefused
from workers.engines.base import Failed
from workers.engines.faults import device_lost, exhausted, passing

_log = logging.getLogger(__name__)


def refused(job_id: str, error: BaseException) -> Failed:
    """What becomes of a job whose input could not be taken in. Raises `DeviceLost` where the device went too.

    No other job took part, so it never speaks against the engine.
    """
    if isinstance(error, InputRefused):
        return _refusal(job_id, error.code, error.detail)
    if (lost := device_lost(error)) is not None:
        lost.ticket = job_id
        raise lost from error
    _log.error("admitting %s failed", job_id, exc_info=error)
    kind = type(error).__name__
    if exhausted(error):
        return _refusal(job_id, "out_of_memory", "The model ran out of memory on this input.")
    if passing(error):
        return _refusal(job_id, "engine_error", f"The model could not take this input: {kind}")
    return _refusal(job_id, "poison_input", f"The model fails on this input: {kind}")


def _refusal(job_id: str, code: str, message: str) -> Failed:
    return Failed(job_id, code, message, at_admission=True)
