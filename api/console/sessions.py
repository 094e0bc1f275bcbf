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
from collections.abc import Sequence
from typing import NamedTuple, cast

import msgspec
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
MOST_OF_KEY = 64
"""Sessions that a key may have at once; the one that began first ends for another."""
MOST_CHARACTERS = 200

NAME = b"name v2"
"""Sessions of the version before, whose name was another, are in no list and could not be ended from one."""

_BROWSERS = (
    *(("Edg/", "Edge"), ("OPR/", "Opera"), ("Firefox/", "Firefox"), ("FxiOS/", "Firefox")),
    *(("Chrome/", "Chrome"), ("CriOS/", "Chrome"), ("Safari/", "Safari")),
)
_SYSTEMS = (
    *(("Windows", "Windows"), ("Android", "Android"), ("iPhone", "iPhone"), ("iPad", "iPad")),
    *(("Mac OS X", "macOS"), ("CrOS", "ChromeOS"), ("Linux", "Linux")),
)
"""Marks in a User-Agent, and what each tells; the first that is there counts, as many name others too."""
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


class Listed(msgspec.Struct, frozen=True):
    """A session as those see it who may end it: where it began, and when it ends if nobody uses it (s)."""

    name: str
    began: int
    address: str
    agent: str
    ends: int = 0

    @property
    def id(self) -> str:
        return self.name[:ID_LENGTH]

    @property
    def browser(self) -> str:
        """What it is known to be, such as `Firefox, Linux`; else what it says of itself, in part."""
        kind = next((name for mark, name in _BROWSERS if mark in self.agent), "")
        system = next((name for mark, name in _SYSTEMS if mark in self.agent), "")
        return ", ".join(filter(None, (kind, system))) if kind else self.agent[:40]


_decode = msgspec.json.Decoder(Listed).decode


class Sessions:
    """Begins, finds and ends sessions. All methods raise `StoreUnavailable`.

    What signs them is derived from the server's token: a new token ends them all.
    """

    def __init__(self, redis: Redis, keys: Keys, token: str) -> None:
        self._redis = redis
        self._keys = keys
        self._token = token
        self._secret = hmac.digest(token.encode(), b"truthgpt console session v1", hashlib.sha256)

    def begin(self, key_id: str, address: str = "", agent: str = "") -> Session:
        """A session for who has just proved to hold this key, from this address with this browser."""
        began = int(time.time())
        cookie = f"{key_id}.{began}.{secrets.token_urlsafe(32)}"
        digest = self._digest(NAME, cookie)
        told = Listed(digest, began, address[:MOST_CHARACTERS], agent[:MOST_CHARACTERS])
        self._drop(key_id, self.of_key(key_id)[MOST_OF_KEY - 1 :])
        index = self._keys("console-sessions", key_id)
        with reachable():
            pipe = self._redis.pipeline(transaction=True)
            pipe.set(self._keys("console-session", digest), 1, ex=IDLE)
            pipe.hset(index, digest, msgspec.json.encode(told))
            pipe.expire(index, LIFETIME)
            pipe.execute()
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
        match = _COOKIE.fullmatch(cookie)
        if match is not None:
            self._drop(match[1], [Listed(self._digest(NAME, cookie), int(match[2]), "", "")])

    def of_key(self, key_id: str) -> list[Listed]:
        """The sessions that a key has now, the newest first."""
        index = self._keys("console-sessions", key_id)
        with reachable():
            rows = cast(dict[bytes, bytes], self._redis.hgetall(index))
            found = [_decode(row) for row in rows.values()]
            pipe = self._redis.pipeline(transaction=False)
            for one in found:
                pipe.ttl(self._keys("console-session", one.name))
            left = pipe.execute() if found else []
        self._drop(key_id, [one for one, ttl in zip(found, left, strict=True) if ttl < 0])
        now = int(time.time())
        live = [
            msgspec.structs.replace(one, ends=now + ttl)
            for one, ttl in zip(found, left, strict=True)
            if ttl >= 0
        ]
        return sorted(live, key=lambda one: (-one.began, one.name))

    def end_all(self, key_id: str) -> int:
        """End all sessions of a key now. Returns how many there were."""
        live = self.of_key(key_id)
        self._drop(key_id, live)
        return len(live)

    def _drop(self, key_id: str, gone: Sequence[Listed]) -> None:
        if not gone:
            return
        with reachable():
            pipe = self._redis.pipeline(transaction=True)
            pipe.delete(*(self._keys("console-session", one.name) for one in gone))
            pipe.hdel(self._keys("console-sessions", key_id), *(one.name for one in gone))
            pipe.execute()

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
        name = self._digest(NAME, cookie)
        return Session(name[:ID_LENGTH], cookie, key_id, began, self._digest(b"csrf", cookie))

    def _name(self, cookie: str) -> str:
        return self._keys("console-session", self._digest(NAME, cookie))

    def _digest(self, purpose: bytes, cookie: str) -> str:
        made = hmac.digest(self._secret, purpose + b"\0" + cookie.encode(), hashlib.sha256)
        return base64.urlsafe_b64encode(made).rstrip(b"=").decode()
