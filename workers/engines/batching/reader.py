"""Reads long inputs on a thread of its own, so that the loop that serves other jobs does not wait."""

import os
import queue
import threading
from collections.abc import Callable
from contextlib import suppress
from itertools import count
from typing import Generic, TypeVar

LONG = 4096
"""Characters. What is shorter is tokenised in less time than it takes to ask another thread."""
POLL = 0.005
"""Seconds between two looks at what is read, while there is nothing else to do."""
NICE = 10

Read = TypeVar("Read")


class Reading(Generic[Read]):
    """One input that is read. `result` is what came out, or the exception."""

    def __init__(self, job_id: str, read: Callable[[], Read]) -> None:
        self.id = job_id
        self.read = read
        self.dropped = False
        self.result: Read | BaseException | None = None


class Reader(Generic[Read]):
    """Reads one input after the other, the shortest first. All methods are the loop's; as many wait as the
    engine admits.

    The thread `yields` to those that run the model, where the system can tell them apart: for inputs that are
    read now and then. Where every batch waits for it, it must not.
    """

    def __init__(self, *, yields: bool = True) -> None:
        self._yields = yields
        self._begun: dict[str, Reading[Read]] = {}
        self._todo: queue.PriorityQueue[tuple[int, int, Reading[Read]]] = queue.PriorityQueue()
        self._numbers = count()
        self._done: queue.SimpleQueue[Reading[Read]] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None

    def __len__(self) -> int:
        """How many are being read or have been, and were not taken."""
        return len(self._begun)

    def __contains__(self, job_id: str) -> bool:
        return job_id in self._begun

    def begin(self, job_id: str, size: int, read: Callable[[], Read]) -> None:
        """Call `read` on the thread; `taken` will have what comes of it. `size` is the input's length."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="reader", daemon=True)
            self._thread.start()
        self._begun[job_id] = reading = Reading(job_id, read)
        self._todo.put((size, next(self._numbers), reading))

    def drop(self, job_id: str) -> None:
        """Forget an input. One whose turn has come is read to its end all the same."""
        if (reading := self._begun.pop(job_id, None)) is not None:
            reading.dropped = True

    def taken(self) -> list[tuple[str, Read | BaseException]]:
        """What has been read since the last call, by job, or the exception that reading ended with."""
        found: list[tuple[str, Read | BaseException]] = []
        while not self._done.empty():
            reading = self._done.get()
            if not reading.dropped and reading.result is not None:
                del self._begun[reading.id]
                found.append((reading.id, reading.result))
        return found

    def patience(self, *, busy: bool) -> float:
        """Seconds until the loop should look again: none while it is `busy` or something has been read."""
        return POLL if self._begun and not busy and self._done.empty() else 0.0

    def _run(self) -> None:
        if self._yields:
            with suppress(AttributeError, OSError):
                thread = os.PRIO_PROCESS, threading.get_native_id()
                os.setpriority(*thread, max(NICE, os.getpriority(*thread)))
        while True:
            _, _, reading = self._todo.get()
            if reading.dropped:
                continue
            try:
                reading.result = reading.read()
            except BaseException as error:  # noqa: BLE001 - a tokenizer's panic is no Exception; who takes it judges
                reading.result = error
            self._done.put(reading)
