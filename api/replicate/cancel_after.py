"""Replicate's header `Cancel-After`: how long a prediction may take, from when it is made."""

import re

from api.http.operations import Parameter
from api.http.request_context import RequestContext
from shared.domain.errors import InvalidRequest
from shared.domain.schemas import MAX_EXPIRES_IN

LEAST_SECONDS = 5
_SPAN = re.compile(r"(?=[0-9])(?:([0-9]{1,6})h)?(?:([0-9]{1,6})m)?(?:([0-9]{1,6})s?)?")

CANCEL_AFTER = Parameter(
    "Cancel-After",
    "header",
    f"For how long the prediction may take: {LEAST_SECONDS} s to {MAX_EXPIRES_IN} s, also as `1h30m`. "
    "One that has not ended by then has failed.",
    # A part of what is taken: no pattern says how large a sum is.
    {"type": "string", "pattern": "^([5-9]|[1-9][0-9]{1,4})s?$"},
    "90s",
)


def cancel_after(here: RequestContext) -> float | None:
    """Seconds until the prediction expires; None where nothing is said. Raises `InvalidRequest`."""
    given = here.environ.get("HTTP_CANCEL_AFTER")
    if given is None:
        return None
    found = _SPAN.fullmatch(given.strip())
    hours, minutes, seconds = (int(part or 0) for part in found.groups()) if found else (0, 0, 0)
    span = hours * 3600 + minutes * 60 + seconds
    if not LEAST_SECONDS <= span <= MAX_EXPIRES_IN:
        raise InvalidRequest(
            f"'Cancel-After' must be {LEAST_SECONDS} s to {MAX_EXPIRES_IN} s, such as 90s or 1h30m, "
            f"not {given[:40]!r}.",
            code="invalid_parameter",
        )
    return float(span)
