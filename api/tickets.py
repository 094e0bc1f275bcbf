"""Tickets: keys to one job's events, for readers that cannot send headers.

A ticket lives as long as its job can, for such a reader comes back by itself, for days, with the URL that it
was made with. With its job it is good for nothing.
"""

import base64
import hashlib
import hmac
import re
import time

from shared.domain.schemas import MAX_EXPIRES_IN

LIFETIME = MAX_EXPIRES_IN + 24 * 3600
"""Seconds: the longest that a job may wait, and that it is kept after its end."""
_BLOCK = 64
"""Bytes that SHA-256 takes at a time."""

_TICKET = re.compile(r"([0-9]{1,12})\.([A-Za-z0-9_-]{43})")


class Tickets:
    """Issues and checks `<expiry>.<HMAC-SHA256 of job id and expiry>`, in URL-safe base64.

    The signing key is derived from the API token, so every process of a deployment takes every other's
    tickets, and a new token ends them all. `lifetime` is in seconds.
    """

    def __init__(self, token: str, lifetime: int = LIFETIME) -> None:
        self._lifetime = lifetime
        key = hmac.digest(token.encode(), b"truthgpt events ticket v1", hashlib.sha256)
        # HMAC (RFC 2104) begins and ends with a block that only the key decides: both are hashed once.
        block = key.ljust(_BLOCK, b"\0")
        self._inner = hashlib.sha256(bytes(byte ^ 0x36 for byte in block))
        self._outer = hashlib.sha256(bytes(byte ^ 0x5C for byte in block))

    def issue(self, job_id: str, now: float | None = None) -> str:
        """A ticket for a job's events, good for the `lifetime` of all."""
        expiry = int(now if now is not None else time.time()) + self._lifetime
        return f"{expiry}.{self._sign(job_id, expiry)}"

    def admits(self, ticket: str, job_id: str, now: float | None = None) -> bool:
        """Whether a ticket is ours, for this job, and has not expired."""
        match = _TICKET.fullmatch(ticket)
        if match is None:
            return False
        expiry = int(match[1])
        genuine = hmac.compare_digest(self._sign(job_id, expiry), match[2])
        return genuine and expiry > (now if now is not None else time.time())

    def _sign(self, job_id: str, expiry: int) -> str:
        inner, outer = self._inner.copy(), self._outer.copy()
        inner.update(f"{job_id}.{expiry}".encode())
        outer.update(inner.digest())
        return base64.urlsafe_b64encode(outer.digest()).rstrip(b"=").decode()
