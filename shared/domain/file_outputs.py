"""Files in a job's output: `{"file": "file-…"}` in the place of what an engine gives as base64 or numbers.

The engine host has no storage, so it gives `{"file": {"name": …, "base64": …}}`, and its worker stores that.
"""

import base64
from collections.abc import Iterator
from typing import Any

import msgspec

PARAM = "files"
"""What a job asks for them by, among its params."""


class FileContent(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A file on its way to the storage."""

    name: str
    base64: str

    @property
    def data(self) -> bytes:
        """The bytes of the file."""
        return base64.b64decode(self.base64)


def on_its_way(name: str, data: bytes) -> dict[str, Any]:
    """The member of an output that becomes a file."""
    return {"file": {"name": name, "base64": base64.b64encode(data).decode()}}


def contents(output: Any) -> Iterator[tuple[dict[str, Any], FileContent]]:
    """The members of an output that are to be files, each with its content."""
    if isinstance(output, list):
        for value in output:
            yield from contents(value)
    elif isinstance(output, dict):
        if set(output) == {"file"} and isinstance(output["file"], dict):
            yield output, msgspec.convert(output["file"], FileContent)
            return
        for value in output.values():
            yield from contents(value)
