"""The lines of a batch's input, read from the storage piece by piece."""

from collections.abc import Iterator
from typing import Any, NamedTuple

from api.http.body_bounds import decoded
from shared.domain.batches import MAX_CUSTOM_ID
from shared.domain.errors import JobsError
from shared.files import CHUNK, Storage

_MARK = b"\xef\xbb\xbf"


class Line(NamedTuple):
    """A line: its number from 0, where it stands in the file, what it says; None: more than may be."""

    number: int
    offset: int
    length: int
    data: bytes | None

    @property
    def end(self) -> int:
        """Where the next line begins, if there is one."""
        return self.offset + self.length + 1


class Request(NamedTuple):
    """The request that one line of a batch's input stands for."""

    custom_id: str
    method: Any
    url: Any
    body: Any


class LineFault(Exception):
    """A line is not what it should be. `code` and `param` are as OpenAI's errors of batches have them."""

    def __init__(self, code: str, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.param = param


def lines(
    storage: Storage, place: str, size: int, most: int, number: int = 0, offset: int = 0
) -> Iterator[Line]:
    """The lines of a file of `size` bytes from `offset` on, where line `number` begins, but for empty ones.

    One of more than `most` bytes is told without its text. Raises as `Storage.read`.
    """
    held, begin, dropped = bytearray(), offset, 0
    while offset < size:
        block = storage.read(place, offset, min(size, offset + CHUNK))
        if not block:
            break
        offset += len(block)
        *whole, rest = block.split(b"\n")
        for piece in whole:
            held += piece
            length = dropped + len(held)
            line = _line(number, begin, length, held, most)
            if line is not None:
                yield line
                number += 1
            begin += length + 1
            held, dropped = bytearray(), 0
        held += rest
        if len(held) > most + len(_MARK):
            # It is too long already; only its length is still counted.
            dropped += len(held)
            held.clear()
    last = _line(number, begin, dropped + len(held), held, most)
    if last is not None:
        yield last


def _line(number: int, offset: int, length: int, held: bytearray, most: int) -> Line | None:
    if length > len(held):
        return Line(number, offset, length, None)
    data = bytes(held).strip()
    if offset == 0:
        data = data.removeprefix(_MARK).strip()
    if not data:
        return None
    return Line(number, offset, length, data if len(data) <= most else None)


def request_of(line: Line, most_bytes: int, most_values: int) -> Request:
    """What a line asks. Raises `LineFault`."""
    if line.data is None:
        raise LineFault("line_too_long", f"The line has more than {most_bytes} bytes.")
    try:
        said = decoded(line.data, most_values)
    except JobsError as error:
        raise LineFault(
            "invalid_json_line", f"The line is no JSON object: {error.detail}"
        ) from None
    for name in ("custom_id", "method", "url", "body"):
        if said.get(name) is None:
            raise LineFault("missing_required_parameter", f"The line has no {name!r}.", name)
    custom_id = said["custom_id"]
    if not isinstance(custom_id, str) or not 1 <= len(custom_id) <= MAX_CUSTOM_ID:
        raise LineFault(
            "invalid_custom_id",
            f"'custom_id' must be a text of 1 to {MAX_CUSTOM_ID} characters.",
            "custom_id",
        )
    return Request(custom_id, said["method"], said["url"], said["body"])
