"""Finds the write that Redis refuses, so that no other one waits for it and it is not tried for ever.

A value that is too large ends the connection (`proto-max-bulk-len`), is refused by a hosted service's own
limit, or never gets through within the timeout. What stands in the same pipeline fails with it.
"""

import logging
from collections.abc import Callable, Sequence
from enum import Enum

from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import NoPermissionError, RedisError, ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from shared.domain.errors import StoreUnavailable
from shared.domain.records import Append, Finish, Write
from shared.domain.write_results import WriteResult

LARGE = 256 * 1024
"""Bytes in a write from which their size may be why they are refused."""
TRIES = 3
"""How often large writes may find Redis away, while it answers others, before their size is to blame."""

_log = logging.getLogger(__name__)


class Refusal(Enum):
    """Why a write was never carried out."""

    REFUSED = "refused"
    TOO_LARGE = "too large"


Result = WriteResult | Refusal
"""What became of a write: what the store says, or why it has none of it."""


class Writer:
    """Carries out writes; those of one attempt stay together and in their order.

    Raises `StoreUnavailable` where all must be repeated: Redis is away, or refuses whatever it is told.
    """

    def __init__(self, write: Callable[[list[Write]], Sequence[WriteResult]]) -> None:
        self._carry_out = write
        self._away: dict[tuple[str, int], int] = {}
        """How often an attempt's large writes found Redis away."""

    def write(self, writes: list[Write]) -> Sequence[Result]:
        """Carry out writes. Returns what became of each."""
        try:
            results = self._carry_out(writes)
        except StoreUnavailable as error:
            if sum(map(_size, writes)) < LARGE or not _lost(error):
                raise
        except RedisError as error:
            _log.warning("Redis refuses %d writes (%s); trying them apart", len(writes), error)
        else:
            self._away.clear()
            return results
        return self._apart(writes)

    def _apart(self, writes: list[Write]) -> list[Result]:
        """One by one, the smallest attempt first. After a refusal the rest of its attempt is refused too."""
        groups: dict[tuple[str, int], list[int]] = {}
        for place, write in enumerate(writes):
            groups.setdefault((write.id, write.attempt), []).append(place)
        results: list[Result] = [WriteResult.FENCED] * len(writes)
        for places in sorted(
            groups.values(), key=lambda group: sum(_size(writes[p]) for p in group)
        ):
            refusal: Refusal | None = None
            for place in places:
                answer = self._alone(writes[place]) if refusal is None else refusal
                refusal = answer if isinstance(answer, Refusal) else None
                results[place] = answer
        return results

    def _alone(self, write: Write) -> Result:
        large = _size(write) >= LARGE
        key = (write.id, write.attempt)
        try:
            [answer] = self._carry_out([write])
        except StoreUnavailable as error:
            if not large or not _lost(error) or not self._answers():
                raise
            self._away[key] = self._away.get(key, 0) + 1
            if self._away[key] < TRIES:
                raise
            said, refusal = str(error), Refusal.TOO_LARGE
        except RedisError as error:
            if not self._answers():
                raise StoreUnavailable(f"Redis refuses every write: {error}") from error
            said, refusal = str(error), _meaning(error) if large else Refusal.REFUSED
        else:
            return answer
        _log.error("Redis refuses what %s/%d has to say (%s)", *key, said)
        return refusal

    def _answers(self) -> bool:
        """Whether Redis runs the script of writes when there is nothing to write."""
        try:
            self._carry_out([])
        except (StoreUnavailable, RedisError):
            return False
        return True


def _size(write: Write) -> int:
    """Bytes of what a job said, the part of a write that has no bound of its own."""
    if isinstance(write, Append):
        return len(write.data)
    return len(write.output) if isinstance(write, Finish) else 0


def _lost(error: StoreUnavailable) -> bool:
    """Whether the connection ended or nothing came back, rather than an answer that says what is wrong."""
    return isinstance(error.__cause__, RedisConnectionError | RedisTimeoutError)


def _meaning(error: RedisError) -> Refusal:
    by_itself = isinstance(error, ResponseError) and not isinstance(error, NoPermissionError)
    other = "WRONGTYPE" in str(error) or "NOPERM" in str(error)
    return Refusal.TOO_LARGE if by_itself and not other else Refusal.REFUSED
