"""Checks what a model returns before anyone believes it: number, order, finite numbers, JSON, size."""

import math
from collections.abc import Mapping
from functools import partial
from typing import Any

import msgspec

from shared.domain.errors import InputRefused, JobsError
from workers.engines.base import Failed, Finished
from workers.engines.faults import SHAPED_BY_INPUT, exhausted


class BadOutput(JobsError):
    """What a model returned is not what it must be."""

    code = "engine_error"


def checked(outputs: Any, count: int) -> list[Any]:
    """The outputs as a list of `count`. Raises `BadOutput`."""
    rows = plain(outputs)
    if not isinstance(rows, list | tuple):
        raise BadOutput(f"predict must return a list, it returned {type(outputs).__name__}")
    if len(rows) != count:
        raise BadOutput(f"predict returned {len(rows)} outputs for {count} inputs")
    return list(rows)


def outcome(job_id: str, output: Any, usage: Mapping[str, int]) -> Finished | Failed:
    if isinstance(output, BaseException):
        return failed(job_id, output)
    try:
        return Finished(job_id, snapshot(output), usage)
    except BadOutput as error:
        return Failed(job_id, error.code, error.detail)


def failed(job_id: str, error: BaseException) -> Failed:
    if isinstance(error, InputRefused):
        return Failed(job_id, error.code, error.detail)
    if exhausted(error):
        return Failed(job_id, "out_of_memory", "The model ran out of memory on this job.")
    message = f"The model failed: {type(error).__name__}: {error}"
    return Failed(job_id, "engine_error", message, isinstance(error, SHAPED_BY_INPUT))


def snapshot(output: Any) -> Any:
    """An output as it is now, in plain JSON values: the model may go on changing its own object.

    Raises `BadOutput`.
    """
    return _decode(to_json(output))


def to_json(output: Any) -> bytes:
    """An output as JSON, the numbers, arrays and tensors anywhere inside it as numbers and lists.

    Raises `BadOutput` for what JSON has no word for, NaN and infinity among it.
    """
    try:
        document = _encode(output)
        # NaN comes out as null, so where there is no null nobody need look for it.
        finite = b"null" not in document or _finite(_builtins(output))
    except Exception as error:  # noqa: BLE001 - an object of the model's may raise whatever it likes
        reason = str(error) or type(error).__name__
        raise BadOutput(f"The model's output is not JSON: {reason}") from None
    if not finite:
        raise BadOutput("The model's output for this job is not a number (NaN or infinity).")
    return document


def plain(value: Any) -> Any:
    """Tensors, arrays and their single numbers as lists and numbers."""
    return value.tolist() if hasattr(value, "tolist") else value


def _foreign(value: Any) -> Any:
    """What JSON does not know by itself, in values that it does."""
    found = plain(value)
    if found is value:
        raise TypeError(f"{type(value).__name__} has no form in JSON")
    return found


_encode = msgspec.json.Encoder(enc_hook=_foreign).encode
_decode = msgspec.json.Decoder().decode
_builtins = partial(msgspec.to_builtins, enc_hook=_foreign, str_keys=True)


def _finite(value: Any) -> bool:
    """`value` as `msgspec.to_builtins` gives it, in which NaN is still one and classes are dicts."""
    if isinstance(value, float):
        return math.isfinite(value)
    if isinstance(value, dict):
        return all(map(_finite, value.values()))
    return not isinstance(value, list | tuple | set | frozenset) or all(map(_finite, value))
