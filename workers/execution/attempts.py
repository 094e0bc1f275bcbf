"""The table of a worker's attempts: those in the engine and those that wait in quarantine."""

import threading
from collections.abc import Sequence

from workers.execution.attempt import Attempt, ticket_of
from workers.execution.quarantine import Quarantine


class Attempts:
    """Safe to share between threads: one lock guards all of it, and nobody else is called inside."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._by_ticket: dict[str, Attempt] = {}
        self._quarantine = Quarantine()
        self.taken = 0
        """How many attempts this worker has taken over: it grows while jobs are consumed."""

    def __len__(self) -> int:
        return len(self._by_ticket)

    @property
    def quarantined(self) -> bool:
        """Whether attempts wait for the engine to be free of others, or run alone in it."""
        return bool(self._quarantine)

    def get(self, ticket: str) -> Attempt | None:
        return self._by_ticket.get(ticket)

    def leases(self) -> list[tuple[str, int]]:
        """The (job id, attempt) pairs whose leases are this worker's to renew."""
        with self._lock:
            return [(one.claim.id, one.claim.attempt) for one in self._by_ticket.values()]

    def tickets(self) -> list[str]:
        with self._lock:
            return list(self._by_ticket)

    def tickets_of(self, job_id: str) -> tuple[list[str], list[str]]:
        """A job's tickets: those that the engine never had, which leave the quarantine, and the others."""
        with self._lock:
            found = [t for t, one in self._by_ticket.items() if one.claim.id == job_id]
            idle = [ticket for ticket in found if self._quarantine.remove(ticket)]
        return idle, [ticket for ticket in found if ticket not in idle]

    def of_lease(self, job_id: str, number: int) -> Attempt | None:
        with self._lock:
            return self._by_ticket.get(ticket_of(job_id, number))

    def in_engine(self) -> list[str]:
        """The tickets of those that the engine has; who waits in quarantine is not there yet."""
        with self._lock:
            waiting = {attempt.ticket for attempt in self._quarantine.waiting}
            return [ticket for ticket in self._by_ticket if ticket not in waiting]

    def crashed_before(self, tickets: Sequence[str]) -> bool:
        """Whether these are a single attempt, and an earlier one at its job died with its host too."""
        attempt = self._by_ticket.get(tickets[0]) if len(tickets) == 1 else None
        return attempt is not None and attempt.claim.crashes > 0

    def add(self, attempt: Attempt) -> None:
        """Take over an attempt; one under suspicion waits in quarantine."""
        with self._lock:
            self.taken += 1
            self._by_ticket[attempt.ticket] = attempt
            if attempt.claim.crashes:
                self._quarantine.put(attempt)

    def next_group(self, capacity: int) -> list[Attempt]:
        """Who of the quarantine may run now: nobody while the engine holds others."""
        with self._lock:
            others = len(self._by_ticket) - len(self._quarantine)
            return [] if others > 0 else self._quarantine.next_group(capacity)

    def waiting(self) -> Sequence[Attempt]:
        """The attempts in quarantine that the engine has never had."""
        with self._lock:
            return self._quarantine.waiting

    def remove(self, ticket: str) -> Attempt | None:
        """Let go of an attempt. None where that was done before."""
        with self._lock:
            self._quarantine.remove(ticket)
            return self._by_ticket.pop(ticket, None)

    def fence(self, attempt: Attempt) -> bool:
        """Let go of an attempt for which nothing more may be written. False where that was done before."""
        with self._lock:
            self._by_ticket.pop(attempt.ticket, None)
            self._quarantine.remove(attempt.ticket)
            before, attempt.fenced = attempt.fenced, True
        return not before
