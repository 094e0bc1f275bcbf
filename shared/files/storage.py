"""The interface of file storages: files are written whole or not at all, and read in pieces.

Tests hold every implementation against it: tests/shared/files/test_storage.py.
"""

from collections.abc import Iterator
from typing import NamedTuple, Protocol

from shared.domain.errors import JobsError

CHUNK = 1024 * 1024
"""Bytes in which files are read and written where nothing else is said."""


class StorageUnavailable(JobsError):
    """The storage did not take or give a file: it does not answer, or is full."""

    code = "file_storage_unavailable"


class FileGone(JobsError):
    """The storage has no file of this name."""

    code = "file_not_found"


class Stored(NamedTuple):
    """A file as it lies there: its name, size in bytes, and when it was written, in seconds since 1970."""

    name: str
    bytes: int
    written: float


class FileWriter(Protocol):
    """A file on its way. Nobody sees it before `publish`, after which it is there whole, and for good.

    Every method raises `StorageUnavailable`.
    """

    def write(self, data: bytes) -> None: ...

    def publish(self) -> None:
        """Put the file in its place, instead of one of the same name."""

    def discard(self) -> None:
        """Give the file up. After `publish` this does nothing."""


class Storage(Protocol):
    """Names are paths of plain words: `files/file-…`. Every method raises `StorageUnavailable`, and returns
    in bounded time. Safe to share between threads.
    """

    def create(self, name: str) -> FileWriter:
        """Begin to write a file, which nobody sees before it is whole."""

    def read(self, name: str, start: int, end: int) -> bytes:
        """The bytes from `start` up to `end`, which the file has. Raises `FileGone`."""

    def delete(self, name: str) -> None:
        """Remove a file. One that is not there is no error."""

    def listing(self, prefix: str) -> Iterator[Stored]:
        """The files in the folder `prefix`, and below it."""

    def clear_unfinished(self, seconds: float) -> None:
        """Remove what was begun more than so many seconds ago and never published."""


def chunks(storage: Storage, name: str, start: int, end: int, size: int = CHUNK) -> Iterator[bytes]:
    """The bytes from `start` up to `end` in pieces of at most `size`. Raises as `Storage.read`."""
    while start < end:
        piece = storage.read(name, start, min(end, start + size))
        if not piece:
            raise FileGone(f"{name} is shorter than it was.")
        yield piece
        start += len(piece)
