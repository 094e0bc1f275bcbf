"""What a validator finds wrong with a request, as the problem that its sender reads."""

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from shared.domain.errors import InvalidRequest
from shared.domain.wire import MAX_FAULTS_SHOWN

MAX_NAME_SHOWN = 100
"""Characters of a name of the caller's that a refusal repeats."""


def invalid(error: ValidationError, prefix: tuple[str, ...] = (), skip: int = 0) -> InvalidRequest:
    """The answer to a body with faults. `prefix` is where the faulty value stands in it; `skip`: how many of
    each path's first parts are not the caller's: the kind of an input.
    """
    faults = [
        (_message(row), [*prefix, *map(_shown, row["loc"][skip:])], row["type"])
        for row in error.errors(include_url=False, include_input=False)[:MAX_FAULTS_SHOWN]
    ]
    message, place, _ = faults[0]
    where = ".".join(map(str, place))
    return InvalidRequest(
        f"{where}: {message}" if where else message,
        errors=[{"loc": loc, "msg": msg, "type": kind} for msg, loc, kind in faults],
    )


def _message(row: ErrorDetails) -> str:
    """What is wrong; in our own words where one of our validators found it."""
    return str(row["ctx"]["error"]) if row["type"] == "value_error" else row["msg"]


def _shown(part: str | int) -> str | int:
    """A part of a path, bounded: its names are the caller's."""
    return (
        part
        if isinstance(part, int) or len(part) <= MAX_NAME_SHOWN
        else part[:MAX_NAME_SHOWN] + "…"
    )
