"""What a user's model returns, checked before anyone believes it: number, order, finite, JSON."""

import math
from collections.abc import Mapping
from typing import Any

import msgspec

from shared.errors import InputRefused, JobsError
from workers.engines.base import Broke, Finished
from workers.engines.faults import exhausted

_encode = msgspec.json.Encoder().encode


class BadOutput(JobsError):
    """A model's `predict` did not return what it must."""

    code = "engine_error"


def checked(outputs: Any, count: int) -> list[Any]:
    """The outputs as a list of `count`. Raises `BadOutput`."""
    rows = plain(outputs)
    if not isinstance(rows, list | tuple):
        raise BadOutput(f"predict must return a list, it returned {type(outputs).__name__}")
    if len(rows) != count:
        raise BadOutput(f"predict returned {len(rows)} outputs for {count} inputs")
    return list(rows)


def outcome(job_id: str, output: Any, usage: Mapping[str, int]) -> Finished | Broke:
    if isinstance(output, Exception):
        return broke(job_id, output)
    value = plain(output)
    flaw = flaw_of(value)
    return Broke(job_id, "engine_error", flaw) if flaw else Finished(job_id, value, usage)


def broke(job_id: str, error: BaseException) -> Broke:
    if isinstance(error, InputRefused):
        return Broke(job_id, error.code, error.detail)
    if exhausted(error):
        return Broke(job_id, "out_of_memory", "The model ran out of memory on this job.")
    return Broke(job_id, "engine_error", f"The model failed: {type(error).__name__}: {error}")


def plain(value: Any) -> Any:
    """Tensors and arrays as lists and numbers."""
    return value.tolist() if hasattr(value, "tolist") else value


def flaw_of(value: Any) -> str | None:
    """Why a value cannot be sent, None when it can."""
    try:
        if not _finite(value):
            return "The model's output for this job is not a number (NaN or infinity)."
        _encode(value)
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        return f"The model's output is not JSON: {error}"
    return None


def _finite(value: Any) -> bool:
    if isinstance(value, float):
        return math.isfinite(value)
    if isinstance(value, Mapping):
        return all(map(_finite, value.values()))
    return not isinstance(value, list | tuple) or all(map(_finite, value))
