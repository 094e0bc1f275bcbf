"""What a validator finds wrong with a request, as the problem that its sender reads."""

from collections.abc import Sequence

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from shared.domain.errors import InvalidRequest
from shared.domain.wire import MAX_FAULTS_SHOWN

CHOSEN = "\0"
"""What begins the tag of a kind that a validator has chosen: its place in a body is nobody's."""
MAX_NAME_SHOWN = 100
"""Characters of a name of the caller's that a refusal repeats."""


def invalid(error: ValidationError, prefix: tuple[str, ...] = (), skip: int = 0) -> InvalidRequest:
    """The answer to a body with faults. `prefix` is where the faulty value stands in it; `skip`: how many of
    each path's first parts are not the caller's: the kind of an input.
    """
    faults = [
        (_message(row), [*prefix, *_place(row["loc"][skip:])], row["type"])
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


def _place(loc: Sequence[str | int]) -> list[str | int]:
    """Where a fault stands in what was sent."""
    return [_shown(part) for part in loc if not (isinstance(part, str) and part[:1] == CHOSEN)]


def _shown(part: str | int) -> str | int:
    """A part of a path, bounded: its names are the caller's."""
    return (
        part
        if isinstance(part, int) or len(part) <= MAX_NAME_SHOWN
        else part[:MAX_NAME_SHOWN] + "…"
    )
