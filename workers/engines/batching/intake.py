"""Reads the inputs of jobs for an engine: short ones at once, long ones beside the loop."""

from collections.abc import Callable
from typing import Generic, TypeVar

from workers.engines.base import Failed, Work
from workers.engines.batching.admission import refused
from workers.engines.batching.reader import LONG, Reader

Read = TypeVar("Read")


class Intake(Generic[Read]):
    """Reads the input of each job and hands it to `take`, which raises what the job is refused for.

    `yields`: see `Reader`.
    """

    def __init__(self, take: Callable[[Work, Read], None], *, yields: bool = True) -> None:
        self._take = take
        self._reader: Reader[Read] = Reader(yields=yields)
        self._reading: dict[str, Work] = {}
        self._refused: list[Failed] = []

    def __contains__(self, job_id: str) -> bool:
        return job_id in self._reading

    def __len__(self) -> int:
        """Jobs that the engine has not got yet, those among them whose refusal is to be reported."""
        return len(self._reading) + len(self._refused)

    def admit(self, work: Work, size: int, read: Callable[[], Read]) -> None:
        """Have an input of `size` characters read: now, or on a thread where it is long.

        `read` may be called by any thread. Raises what it or `take` raises for a short input.
        """
        if size <= LONG:
            self._take(work, read())
        else:
            self._reading[work.id] = work
            self._reader.begin(work.id, size, read)

    def cancel(self, job_id: str) -> None:
        if self._reading.pop(job_id, None) is not None:
            self._reader.drop(job_id)
        self._refused = [failed for failed in self._refused if failed.id != job_id]

    def take_in(self) -> None:
        """Hand over what has been read meanwhile. Raises `DeviceLost` where the device went with an input."""
        for job_id, read in self._reader.taken():
            work = self._reading.pop(job_id)
            try:
                if isinstance(read, BaseException):
                    raise read
                self._take(work, read)
            except BaseException as error:  # noqa: BLE001 - of one job's input, and no other's
                self._refused.append(refused(job_id, error))

    @property
    def has_refused(self) -> bool:
        return bool(self._refused)

    def refusals(self) -> list[Failed]:
        """The outcomes of jobs that were refused after they had been read; each is given once."""
        found, self._refused = self._refused, []
        return found

    def batch_delay(self, *, busy: bool) -> float:
        """Seconds until the loop should look again; 0 while the engine is `busy` with other jobs."""
        return self._reader.patience(busy=busy or self.has_refused)
