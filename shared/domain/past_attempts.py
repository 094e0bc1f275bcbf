"""Attempts that did not end their job, as its record tells them."""

from typing import Any, NamedTuple

from shared.domain.schemas import rfc3339


class PastAttempt(NamedTuple):
    """When an attempt began and ended (ms since 1970), why, and on which worker."""

    attempt: int
    began: int
    ended: int
    reason: str
    worker: str

    def members(self) -> dict[str, Any]:
        """The attempt as clients see it (`EarlierAttempt`): where it ran is the operator's to know."""
        return {
            "attempt": self.attempt,
            "started_at": rfc3339(self.began),
            "ended_at": rfc3339(self.ended),
            "reason": self.reason,
        }


def past_attempts(lines: str) -> list[PastAttempt]:
    """The attempts of a record's `past`, a line each: number, begin, end, reason, worker; oldest first."""
    parts = (line.split(" ", 4) for line in lines.splitlines())
    return [
        PastAttempt(int(n), int(began), int(ended), why, who) for n, began, ended, why, who in parts
    ]
