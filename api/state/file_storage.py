"""The file storage as API processes use it: beside the event loop, which a disk or a bucket would hold up."""

from collections.abc import Callable, Iterator
from threading import Lock
from typing import Any, TypeVar

from shared.files import FileWriter, Storage, Stored

THREADS = 8
"""Calls of a process that may be under way; others wait for their turn."""

Value = TypeVar("Value")


class LoopStorage:
    """`storage`, whose calls run on a few threads where gevent serves, and in place elsewhere."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._lock = Lock()
        self._run: Callable[[Callable[[], Any]], Any] | None = None

    def create(self, name: str) -> FileWriter:
        return LoopWriter(self.beside(lambda: self._storage.create(name)), self.beside)

    def read(self, name: str, start: int, end: int) -> bytes:
        return self.beside(lambda: self._storage.read(name, start, end))

    def delete(self, name: str) -> None:
        self.beside(lambda: self._storage.delete(name))

    def listing(self, prefix: str) -> Iterator[Stored]:
        return iter(self.beside(lambda: list(self._storage.listing(prefix))))

    def clear_unfinished(self, seconds: float) -> None:
        self.beside(lambda: self._storage.clear_unfinished(seconds))

    def beside(self, work: Callable[[], Value]) -> Value:
        """What `work` returns, or raises."""
        with self._lock:
            if self._run is None:
                self._run = _beside_the_loop()
            run = self._run
        value: Value = run(work)
        return value


class LoopWriter:
    """A writer whose calls run where `beside` runs them."""

    def __init__(self, writer: FileWriter, beside: Callable[[Callable[[], None]], None]) -> None:
        self._writer = writer
        self._beside = beside

    def write(self, data: bytes) -> None:
        self._beside(lambda: self._writer.write(data))

    def publish(self) -> None:
        self._beside(self._writer.publish)

    def discard(self) -> None:
        self._beside(self._writer.discard)


def _beside_the_loop() -> Callable[[Callable[[], Any]], Any]:
    from gevent import monkey
    from gevent.threadpool import ThreadPool

    if not monkey.is_module_patched("threading"):
        return lambda work: work()
    pool = ThreadPool(THREADS)

    def caught(work: Callable[[], Any]) -> tuple[Any, Exception | None]:
        # gevent would print what a thread of its pool raises.
        try:
            return work(), None
        except Exception as error:  # noqa: BLE001 - raised anew where it was asked for
            return None, error

    def run(work: Callable[[], Any]) -> Any:
        value, error = pool.apply(caught, (work,))
        if error is not None:
            raise error
        return value

    return run
