"""Sessions of the console: who has signed in, for how long, and what they prove with each change.

A session is not the key. Its cookie is `<key id>.<began>.<32 random bytes>`, and Redis holds an HMAC of the
whole cookie, as the name of a key that goes when nobody has used it for a while. So whoever reads Redis
cannot call, and whoever writes to it cannot make a session, nor let one be another key's or live longer.
Whether the key itself still holds is asked at every request.
"""

import base64
import hashlib
import hmac
import re
import secrets
import time
from typing import NamedTuple

from redis import Redis

from shared.redis.connection import reachable
from shared.settings.sign_in_ticket import LIFETIME as TICKET_LIFETIME
from shared.settings.sign_in_ticket import nonce_of
from shared.store.keys import Keys

LIFETIME = 24 * 3600
"""Seconds after which one signs in again, however busy the session was."""
IDLE = 2 * 3600
"""Seconds after which a session has ended that nobody used."""
OPERATOR = "default"
"""What stands for the server's own token in place of a key's id."""
ID_LENGTH = 12

_COOKIE = re.compile(rf"({OPERATOR}|[0-9a-f]{{16}})\.([0-9]{{1,12}})\.[A-Za-z0-9_-]{{43}}")


class Session(NamedTuple):
    """One browser that has signed in with the key `key_id`. `csrf` goes with each change that it makes.

    `id` tells it apart from others for people; nobody can use the session with it.
    """

    id: str
    cookie: str
    key_id: str
    began: int
    csrf: str


class Sessions:
    """Begins, finds and ends sessions. All methods raise `StoreUnavailable`.

    What signs them is derived from the server's token: a new token ends them all.
    """

    def __init__(self, redis: Redis, keys: Keys, token: str) -> None:
        self._redis = redis
        self._keys = keys
        self._token = token
        self._secret = hmac.digest(token.encode(), b"truthgpt console session v1", hashlib.sha256)

    def begin(self, key_id: str) -> Session:
        """A session for who has just proved to hold this key."""
        began = int(time.time())
        cookie = f"{key_id}.{began}.{secrets.token_urlsafe(32)}"
        with reachable():
            self._redis.set(self._name(cookie), 1, ex=IDLE)
        return self._session(cookie, key_id, began)

    def find(self, cookie: str) -> Session | None:
        """The session of a cookie, which is in use now; None for one that has ended or never was."""
        match = _COOKIE.fullmatch(cookie)
        if match is None:
            return None
        left = int(match[2]) + LIFETIME - int(time.time())
        if left <= 0:
            return None
        with reachable():
            lives = self._redis.expire(self._name(cookie), min(IDLE, left))
        return self._session(cookie, match[1], int(match[2])) if lives else None

    def end(self, cookie: str) -> None:
        """End a session now. May be repeated."""
        with reachable():
            self._redis.delete(self._name(cookie))

    def redeem(self, ticket: str) -> bool:
        """Use up a link that signs in once. False: it is not ours, has expired, or was used before."""
        nonce = nonce_of(self._token, ticket)
        if nonce is None:
            return False
        with reachable():
            # Kept for longer than any ticket lives, so that none can be used twice.
            first = self._redis.set(
                self._keys("console-ticket", nonce), 1, nx=True, ex=2 * TICKET_LIFETIME
            )
        return bool(first)

    def _session(self, cookie: str, key_id: str, began: int) -> Session:
        name = self._digest(b"name", cookie)
        return Session(name[:ID_LENGTH], cookie, key_id, began, self._digest(b"csrf", cookie))

    def _name(self, cookie: str) -> str:
        return self._keys("console-session", self._digest(b"name", cookie))

    def _digest(self, purpose: bytes, cookie: str) -> str:
        made = hmac.digest(self._secret, purpose + b"\0" + cookie.encode(), hashlib.sha256)
        return base64.urlsafe_b64encode(made).rstrip(b"=").decode()
