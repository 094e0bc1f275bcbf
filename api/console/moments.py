"""Times that forms of pages send: the reader's own zone, made a number by the page's script."""

from shared.domain.errors import InvalidRequest


def moment(given: str) -> int | None:
    """A time in ms since 1970, None for an empty field. Raises `InvalidRequest`."""
    if not given:
        return None
    if not (given.isascii() and given.isdigit() and len(given) <= 14):
        raise InvalidRequest("The time is not one that a page gave.", code="invalid_parameter")
    return int(given)
