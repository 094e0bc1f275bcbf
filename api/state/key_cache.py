"""Which key a token is: asked of Redis at most once a second a key, remembered while Redis is away."""

import hmac
import logging
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from shared.domain.errors import StoreUnavailable
from shared.locks import brief_lock
from shared.store.api_key_tokens import Signer, key_id_of
from shared.store.api_keys import ApiKey, ApiKeys

FRESH = 1.0
"""Seconds for which an answer of Redis is believed: as long does a revoke take to bite."""
OUTAGE = 60.0
"""Seconds for which a key that Redis confirmed is taken while Redis is away."""
MOST = 10_000
TOUCH_EVERY = 60.0
_NOBODYS = bytes(32)
_log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Seen:
    """A key that a token has proved to be. Times are monotonic seconds."""

    key: ApiKey
    confirmed: float
    asked: float
    touched: float


class KeyCache:
    """Remembers tokens that proved right, by their digests, and no others.

    So every wrong token takes the same way, whether its key exists, has ended or never was.
    """

    def __init__(
        self, keys: ApiKeys, signer: Signer, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.stored = keys
        self._signer = signer
        self._clock = clock
        self._lock = brief_lock()
        self._seen: OrderedDict[bytes, _Seen] = OrderedDict()

    def check(self, token: str) -> ApiKey | None:
        """The key of this token if it is genuine and active. Raises `StoreUnavailable`."""
        digest, now = self._signer.digest(token), self._clock()
        with self._lock:
            seen = self._seen.get(digest)
            if seen is not None:
                self._seen.move_to_end(digest)
                if now - seen.asked < FRESH and now - seen.confirmed < OUTAGE:
                    return _active(seen.key)
                # Others go on with what is known while this caller asks.
                seen.asked = now
        try:
            key = self._ask(token, digest)
        except StoreUnavailable:
            if seen is not None and now - seen.confirmed < OUTAGE:
                return _active(seen.key)
            raise
        self._remember(digest, key, now)
        return key

    def active(self, key_id: str) -> ApiKey | None:
        """The active key of this id, for who has proved before to hold it. Redis is asked each time.

        None also for a key that was made under another secret. Raises `StoreUnavailable`.
        """
        key = self.stored.find(key_id)
        return _active(key) if key is not None and key.maker == self._signer.name else None

    def _ask(self, token: str, digest: bytes) -> ApiKey | None:
        key_id = key_id_of(token)
        key = self.stored.find(key_id) if key_id is not None else None
        genuine = hmac.compare_digest(digest, key.digest if key is not None else _NOBODYS)
        if key is not None and key.maker != self._signer.name:
            _log.warning(
                "key %s was made under another secret: TRUTHGPT_KEY_SECRET, or TRUTHGPT_API_TOKEN "
                "in its place, was not what it is here",
                key.id,
            )
        return _active(key) if genuine and key is not None else None

    def _remember(self, digest: bytes, key: ApiKey | None, now: float) -> None:
        with self._lock:
            seen = self._seen.get(digest)
            if key is None:
                self._seen.pop(digest, None)
                return
            touched = seen.touched if seen is not None else -TOUCH_EVERY
            due = now - touched >= TOUCH_EVERY
            self._seen[digest] = _Seen(key, now, now, now if due else touched)
            while len(self._seen) > MOST:
                self._seen.popitem(last=False)
        if due:
            self._touch(key)

    def _touch(self, key: ApiKey) -> None:
        try:
            self.stored.touch(key, time.time())
        except StoreUnavailable:
            # When a key was last used is for people to read; no request fails for it.
            return


def _active(key: ApiKey | None) -> ApiKey | None:
    return key if key is not None and key.state(time.time()) == "active" else None
