"""What becomes of a batch whose step broke, for a reason that is no outage: it is tried again, less and less
often, and in the end given up.

An input that breaks its validation fails its batch within minutes, for nothing of it has been worked on.
Later steps are tried until the batch's window ends: somebody may mend the server meanwhile, and answers are
not thrown away before.
"""

import logging
import time

from api.batches.validation import Fault, to_errors
from shared.domain.batches import BatchStatus
from shared.hooks import Observers
from shared.store.batches import Batches, ClaimedBatch, Step

FIRST_PAUSE, LONGEST_PAUSE = 5.0, 600.0
"""Seconds to the next try after the first broken step, doubled with each that follows."""
TRIES = 6
"""Steps that break one after the other before a batch may be given up."""
GIVEN_UP = Fault(
    "internal_error",
    "The server failed at this batch again and again, and has logged why. Ask who runs it.",
)

_log = logging.getLogger(__name__)


class BrokenSteps:
    """Counts them, in the batch and for observers."""

    def __init__(self, batches: Batches, observers: Observers) -> None:
        self._batches = batches
        self._observers = observers

    def record(self, claimed: ClaimedBatch, error: Exception) -> None:
        """Have the batch come again later, or end as failed. Raises `StoreUnavailable`."""
        batch = claimed.batch
        count, now = batch.broken + 1, time.time()
        _log.error("%s: step %d in a row broke", batch.id, count, exc_info=error)
        self._observers.emit("batch_step_broke", batch.status.value)
        if count >= TRIES and not batch.ended and self._is_hopeless(claimed, now):
            _log.error("%s is given up", batch.id)
            ended = {"status": BatchStatus.FAILED.value, "failed_at": int(now)}
            step = Step({**ended, "errors": to_errors([GIVEN_UP]), "broken": 0})
            self._batches.commit(claimed, step, 0)
            return
        pause = min(FIRST_PAUSE * 2.0 ** min(batch.broken, 10), LONGEST_PAUSE)
        self._batches.commit(claimed, Step({"broken": count}), pause)

    @staticmethod
    def _is_hopeless(claimed: ClaimedBatch, now: float) -> bool:
        batch = claimed.batch
        return batch.status is BatchStatus.VALIDATING or now >= batch.expires
