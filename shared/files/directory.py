"""A directory as a file storage. Several machines may share it, as a network file system."""

import errno
import os
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from shared.files.storage import FileGone, StorageUnavailable, Stored

UNFINISHED = ".unfinished"
"""The folder of files that are being written: of the same file system, so that a rename publishes them."""


class Directory:
    """Files under `root`, which is made with the first one. They are their owner's alone."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def create(self, name: str) -> "DirectoryWriter":
        with _explained():
            folder = self._root / UNFINISHED
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            return DirectoryWriter(folder / secrets.token_hex(16), self._root / name)

    def read(self, name: str, start: int, end: int) -> bytes:
        try:
            with _explained():
                file = os.open(self._root / name, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
                try:
                    return os.pread(file, end - start, start)
                finally:
                    os.close(file)
        except FileNotFoundError:
            raise FileGone(f"The content of {name.rpartition('/')[2]} is gone.") from None

    def delete(self, name: str) -> None:
        with _explained(), suppress(FileNotFoundError):
            (self._root / name).unlink()

    def listing(self, prefix: str) -> Iterator[Stored]:
        with _explained():
            for path in sorted((self._root / prefix).rglob("*")):
                with suppress(FileNotFoundError):
                    found = path.stat()
                    if path.is_file():
                        name = path.relative_to(self._root).as_posix()
                        yield Stored(name, found.st_size, found.st_mtime)

    def clear_unfinished(self, seconds: float) -> None:
        before = time.time() - seconds
        with _explained():
            for path in (self._root / UNFINISHED).glob("*"):
                with suppress(FileNotFoundError):
                    if path.stat().st_mtime < before:
                        path.unlink()


class DirectoryWriter:
    """Writes to `path`, which becomes `place`."""

    def __init__(self, path: Path, place: Path) -> None:
        self._path = path
        self._place = place
        flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC
        self._file: int | None = os.open(path, flags, 0o600)

    def write(self, data: bytes) -> None:
        assert self._file is not None, "the file was published"
        view = memoryview(data)
        with _explained():
            while view:
                view = view[os.write(self._file, view) :]

    def publish(self) -> None:
        assert self._file is not None, "the file was published"
        with _explained():
            os.fsync(self._file)
            self._place.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._path.replace(self._place)
            self._close()
            _sync(self._place.parent)

    def discard(self) -> None:
        if self._file is not None:
            self._close()
            with _explained(), suppress(FileNotFoundError):
                self._path.unlink()

    def _close(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            os.close(file)


def _sync(folder: Path) -> None:
    """Have the names in a folder on the disk as well."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _explained() -> Iterator[None]:
    """Raises `StorageUnavailable` for what the file system refuses, but for a file that is not there."""
    try:
        yield
    except FileNotFoundError:
        raise
    except OSError as error:
        # Without the path, which is the server's own affair.
        said = "it is full" if error.errno in (errno.ENOSPC, errno.EDQUOT) else error.strerror
        raise StorageUnavailable(f"The file storage fails: {said}.") from error
