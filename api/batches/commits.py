"""Writing the steps of a batch down, by whom it is claimed: each once, or `Lost`."""

import time
from collections.abc import Callable, Collection
from dataclasses import replace

from api.batches.answers import AnswerLine
from api.batches.part import store_part
from api.services import Services
from shared.domain.batches import BatchStatus
from shared.faults import faults
from shared.store.batches import ClaimedBatch, Step

RENEWALS = 6
"""Times that a claim is renewed before it would be over."""


class Lost(Exception):
    """The batch is somebody else's now, or was cancelled meanwhile."""


class Commits:
    """What is written down of claimed batches, whose claims last for `lease` seconds."""

    def __init__(self, services: Services, lease: float) -> None:
        self._batches = services.batches
        self._storage = services.storage
        self._observers = services.observers
        self._lease = lease

    def write(
        self,
        claimed: ClaimedBatch,
        step: Step,
        answers: list[AnswerLine],
        gathered: Collection[int],
        pause: float,
    ) -> None:
        """Store `answers` as a part, then write the step down, with the lines whose jobs were `gathered`.

        The batch is due again in `pause` seconds. Raises `Lost`.
        """
        fields, parts = dict(step.fields), list[str]()
        if answers:
            parts.append(str(store_part(self._storage, claimed.batch, claimed.fence, answers)))
            fields["part_at"] = int(time.time())
            faults.reach("batch_part_stored")
        done = sum(answer.good for answer in answers)
        written = Step(fields, step.made, list(gathered), parts, done, len(answers) - done)
        self.commit(claimed, written, pause)
        faults.reach("batch_written")
        if answers:
            self._observers.emit("batch_answered", done, len(answers) - done)

    def commit(self, claimed: ClaimedBatch, step: Step, due: float) -> None:
        """Write a step down; the batch is due again in `due` seconds. Raises `Lost`."""
        if claimed.batch.broken:
            step = replace(step, fields={**step.fields, "broken": 0})
        self._commit(claimed, step, due)

    def cancelled(self, claimed: ClaimedBatch) -> bool:
        """Whether the batch is still this one's, and was cancelled."""
        said = self._batches.commit(claimed, Step(), 0)
        return said == BatchStatus.CANCELLING

    def renewal(self, claimed: ClaimedBatch) -> Callable[[], None]:
        """What keeps the lease in a long step. Raises `Lost`."""
        last = [time.monotonic()]

        def renew() -> None:
            if time.monotonic() - last[0] >= self._lease / RENEWALS:
                last[0] = time.monotonic()
                self._commit(claimed, Step(), self._lease)

        return renew

    def _commit(self, claimed: ClaimedBatch, step: Step, due: float) -> None:
        if (said := self._batches.commit(claimed, step, due)) != "done":
            raise Lost(said)
