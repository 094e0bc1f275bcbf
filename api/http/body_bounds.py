"""How much JSON a body may hold: its values are counted before it is decoded.

A value costs a hundred times what a byte of a text does, and all of them are worked on in the loop that
serves everybody. So they are counted by what is fast over bytes, before anything is made of them.
"""

from typing import Any

import msgspec

from shared.domain.errors import InvalidRequest, JobsError

MAX_DEPTH = 64
MAX_INTEGER = 2**63 - 1

# Each value but the first of its list follows a comma; lists and objects are values, and so are names of
# members.
_NO_MARKS = bytes(set(range(256)) - set(b",:[{"))
_DECODER = msgspec.json.Decoder()


def decoded(body: bytes, most: int) -> dict[str, Any]:
    """A body as a JSON object, safe for everything downstream.

    At most `most` values and names of members in it, `MAX_DEPTH` deep, integers within 64 bits, no member
    named twice. The decoder itself stops at depths and digits that would cost more than they are worth.

    Raises `JobsError` with the code that fits.
    """
    marks = _marks(body, most)
    try:
        value = _DECODER.decode(body)
    except RecursionError:
        raise _too_deep() from None
    except (msgspec.MsgspecError, ValueError) as error:
        raise JobsError(
            f"The body cannot be read as JSON: {error}.", code="malformed_json"
        ) from None
    if not isinstance(value, dict):
        raise InvalidRequest('The body must be a JSON object, such as {"model": "…"}.')
    if marks.count(b":") != checked_members(value):
        raise JobsError("An object in the body names a member twice.", code="malformed_json")
    return value


def _marks(body: bytes, most: int) -> bytes:
    """The commas, colons and opening brackets outside texts; of bytes that are no JSON anything.

    Raises `InvalidRequest` where there are too many.
    """
    # In JSON a backslash stands in texts alone.
    plain = body.replace(b"\\\\", b"").replace(b'\\"', b"") if b"\\" in body else body
    if plain.count(b'"') > 2 * most:
        raise _too_many(most)
    marks = b"".join(plain.split(b'"')[::2]).translate(None, _NO_MARKS)
    if len(marks) > most:
        raise _too_many(most)
    return marks


def checked_members(value: Any) -> int:
    """How many members all objects have together. Raises `JobsError` for what is too deep or too large."""
    level, depth, members = [value], 1, 0
    while level:
        if depth > MAX_DEPTH:
            raise _too_deep()
        below: list[Any] = []
        for item in level:
            if isinstance(item, dict):
                members += len(item)
                below.extend(item.values())
            elif isinstance(item, list):
                below.extend(item)
            elif isinstance(item, int) and not -MAX_INTEGER <= item <= MAX_INTEGER:
                raise InvalidRequest("Integers must fit into 64 bits; send larger ones as strings.")
        level, depth = below, depth + 1
    return members


def _too_many(most: int) -> InvalidRequest:
    return InvalidRequest(
        f"The body holds more than {most} values and names of members. Send what is many as a text, or "
        "in several requests."
    )


def _too_deep() -> JobsError:
    return JobsError(f"The body is nested deeper than {MAX_DEPTH} levels.", code="malformed_json")
