"""Prepares an attempt for its engine host: the time left, and what earlier attempts have streamed."""

import logging
import secrets
from collections.abc import Sequence
from hashlib import blake2b
from typing import NamedTuple

import msgspec

from shared.domain.errors import StoreUnavailable
from shared.domain.events import Streamed
from shared.domain.models.catalog import Limits
from shared.domain.records import Claim
from shared.store.jobs import JobStore
from workers.execution.attempt import Attempt
from workers.execution.input_files import InputFiles
from workers.execution.transient import transient
from workers.host_protocol.messages import Submit

NOTHING = Streamed("", (), False)

_log = logging.getLogger(__name__)
_encode = msgspec.json.Encoder().encode


class Prepared(NamedTuple):
    """`submit` is for the engine host. `reset` is the data of the event with which the job's stream starts
    over, b"" where it goes on.
    """

    submit: Submit
    reset: bytes = b""


class Admission:
    """Prepares attempts of one model for its engine, and marks those that have to wait for it.

    `inputs`: the files that its jobs may refer to; None: they may not.
    """

    def __init__(self, store: JobStore, limits: Limits, inputs: InputFiles | None = None) -> None:
        self._store = store
        self._limits = limits
        self._inputs = inputs
        self._salt_key = secrets.token_bytes(32)
        """For this process alone: nothing that a host keeps of a tenant's outlives its worker."""

    def prepare(self, attempt: Attempt, *, continues: bool) -> Prepared:
        """`continues`: the engine can take up the text of an earlier attempt.

        Raises `StoreUnavailable` where it cannot be learned what earlier attempts have streamed.
        """
        claim = attempt.claim
        begun, reset = self._resume(attempt, continues=continues)
        left, run_timeout = attempt.seconds_left, self._limits.run_timeout
        submit = Submit(
            ticket=attempt.ticket,
            request=claim.request if self._inputs is None else self._inputs.filled(claim),
            seconds=min(left, run_timeout),
            limit="expired" if left <= run_timeout else "run_timeout",
            text=begun.text,
            token_ids=begun.token_ids,
            further=begun.further,
            priority=claim.priority,
            finish_reason=begun.finish_reason,
            salt=blake2b(claim.tenant.encode(), key=self._salt_key, digest_size=16).hexdigest(),
        )
        return Prepared(submit, reset)

    def park(self, claims: Sequence[Claim], *, parked: bool) -> None:
        """Mark in the store who waits in quarantine, so that our death is not charged to them."""
        if not claims:
            return
        attempts = [(claim.id, claim.attempt) for claim in claims]
        try:
            transient()(self._store.park, attempts, parked=parked)
        except StoreUnavailable as error:
            _log.warning("%d jobs could not be marked as waiting: %s", len(claims), error)

    def _resume(self, attempt: Attempt, *, continues: bool) -> tuple[Streamed, bytes]:
        """What the engine continues; the data of a `reset` event where it cannot."""
        if attempt.claim.attempt == 1:
            return NOTHING, b""
        begun = transient()(self._store.streamed, attempt.claim.id)
        attempt.resumed = bool(begun.text or begun.other or begun.further)
        if continues and not begun.other:
            texts = (begun.token_ids, *(prefix.token_ids for prefix in begun.further))
            attempt.indexes = {choice: len(ids) for choice, ids in enumerate(texts)}
            return begun, b""
        return NOTHING, _encode({"attempt": attempt.claim.attempt}) if attempt.resumed else b""
