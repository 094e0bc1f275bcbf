"""Prepares an attempt for its engine host: the time left, and what earlier attempts have streamed."""

import logging
import secrets
from collections.abc import Sequence
from hashlib import blake2b
from typing import NamedTuple

import msgspec

from shared.domain.catalog import Limits
from shared.domain.errors import StoreUnavailable
from shared.domain.records import Claim
from shared.store.jobs import JobStore
from workers.execution.attempt import Attempt
from workers.execution.transient import transient
from workers.host_protocol.messages import Submit

_log = logging.getLogger(__name__)
_encode = msgspec.json.Encoder().encode


class Prepared(NamedTuple):
    """`submit` is for the engine host. `reset` is the data of the event with which the job's stream starts
    over, b"" where it goes on.
    """

    submit: Submit
    reset: bytes = b""


class Admission:
    """Prepares attempts of one model for its engine, and marks those that have to wait for it."""

    def __init__(self, store: JobStore, limits: Limits) -> None:
        self._store = store
        self._limits = limits
        self._salt_key = secrets.token_bytes(32)
        """For this process alone: nothing that a host keeps of a tenant's outlives its worker."""

    def prepare(self, attempt: Attempt, *, continues: bool) -> Prepared:
        """`continues`: the engine can take up the text of an earlier attempt.

        Raises `StoreUnavailable` where it cannot be learned what earlier attempts have streamed.
        """
        claim = attempt.claim
        text, token_ids, reset = self._resume(attempt, continues=continues)
        left, run_timeout = attempt.seconds_left, self._limits.run_timeout
        submit = Submit(
            ticket=attempt.ticket,
            request=claim.request,
            seconds=min(left, run_timeout),
            limit="expired" if left <= run_timeout else "run_timeout",
            text=text,
            token_ids=token_ids,
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

    def _resume(self, attempt: Attempt, *, continues: bool) -> tuple[str, tuple[int, ...], bytes]:
        """What the engine continues, as text and as tokens; the data of a `reset` event where it cannot."""
        if attempt.claim.attempt == 1:
            return "", (), b""
        text, token_ids, other = transient()(self._store.streamed, attempt.claim.id)
        attempt.resumed = bool(text or other)
        if continues and not other:
            attempt.index = len(token_ids)
            return text, token_ids, b""
        reset = _encode({"attempt": attempt.claim.attempt}) if text or other else b""
        return "", (), reset
