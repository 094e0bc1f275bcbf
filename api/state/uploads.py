"""How many files a process takes in at once: each holds a connection, and room that is not counted yet."""

from collections.abc import Iterator
from contextlib import contextmanager

from shared.domain.errors import JobsError
from shared.locks import brief_lock

MOST = 16


class UploadsBusy(JobsError):
    code = "uploads_busy"


class Uploads:
    """Safe to share between threads."""

    def __init__(self, most: int = MOST) -> None:
        self._most = most
        self._lock = brief_lock()
        self._open = 0

    @contextmanager
    def place(self) -> Iterator[None]:
        """While a file is taken in. Raises `UploadsBusy`."""
        with self._lock:
            if self._open >= self._most:
                raise UploadsBusy(
                    f"{self._open} files are being uploaded here. Send yours in some seconds."
                )
            self._open += 1
        try:
            yield
        finally:
            with self._lock:
                self._open -= 1
