"""API keys: who holds which, and what each may do.

Redis holds an HMAC of a key's token (`shared.store.api_key_tokens`), never the token.
"""

import math
import re
import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any, cast

from redis import Redis

from shared.domain.errors import ConfigError, InvalidRequest
from shared.redis.connection import reachable
from shared.store.api_key_tokens import Signer, new_token
from shared.store.keys import Keys

UNUSED_FOR = 400 * 24 * 3600
"""Seconds after which a key that nobody uses is forgotten; every use begins them anew."""
TOLD_FOR = 30 * 24 * 3600
"""Seconds for which a key that was revoked or has expired is still listed."""

TENANT = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
MAX_NOTE = 200
MAX_LIFE = 5 * 365 * 24 * 3600
"""The longest time to a key's expiry."""
_INDEX_TTL = MAX_LIFE + TOLD_FOR
LIMITS = ("rpm", "rph", "max_queued", "max_bytes")
_CHANGED = (*LIMITS, "expires", "note")
"""Members of a grant that change while its key lives."""
READ_AT_ONCE = 200
"""Keys that are read from Redis in one call."""


class Scope(StrEnum):
    """What a key may do. `admin` includes the others."""

    JOBS_READ = "jobs:read"
    JOBS_WRITE = "jobs:write"
    METRICS = "metrics"
    ADMIN = "admin"


@dataclass(frozen=True, slots=True)
class Grant:
    """What a key is made with. Times: Unix seconds; None: no limit, or the server's. `note`: its purpose."""

    tenant: str
    scopes: frozenset[Scope]
    rpm: int | None = None
    rph: int | None = None
    max_queued: int | None = None
    max_bytes: int | None = None
    expires: float | None = None
    note: str = ""

    def __post_init__(self) -> None:
        """Raises `ConfigError`, naming what is wrong."""
        if not TENANT.fullmatch(self.tenant):
            raise ConfigError(
                f"tenant: 1 to 64 letters, digits, '_' and '-', not {self.tenant[:80]!r}"
            )
        if not self.scopes:
            raise ConfigError("scopes: a key needs at least one")
        if self.expires is not None and self.expires > time.time() + MAX_LIFE:
            raise ConfigError(f"expires: at most {MAX_LIFE // 86400} days from now")
        if len(self.note) > MAX_NOTE or not self.note.isprintable():
            raise ConfigError(f"note: at most {MAX_NOTE} characters on one line")


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A stored key. `maker` tells secrets apart; `digest` is the token's HMAC."""

    id: str
    grant: Grant
    created: float
    digest: bytes = field(repr=False)
    maker: str = ""
    revoked: bool = False
    used: float | None = None

    def state(self, now: float) -> str:
        """`active`, `revoked` or `expired`."""
        if self.revoked:
            return "revoked"
        expires = self.grant.expires
        return "expired" if expires is not None and expires <= now else "active"


class ApiKeys:
    """The keys in Redis. Raises `StoreUnavailable`, and of a named key `ConfigError` with the codes
    `api_key_not_found` and `api_key_ended`.
    """

    def __init__(self, redis: Redis, keys: Keys, signer: Signer) -> None:
        self._redis = redis
        self._keys = keys
        self._signer = signer

    def create(self, grant: Grant) -> tuple[ApiKey, str]:
        """A new key and its token, which nothing can show again."""
        key, token = self._made(grant)
        with reachable():
            pipe = self._redis.pipeline(transaction=True)
            self._add(pipe, key)
            pipe.execute()
        return key, token

    def find(self, key_id: str) -> ApiKey | None:
        """The key of this id, whatever its state."""
        with reachable():
            pipe = self._redis.pipeline(transaction=False)
            pipe.hgetall(self._keys("api-key", key_id))
            pipe.get(self._keys("api-key-used", key_id))
            stored, used = pipe.execute()
        return _parsed(key_id, stored, used)

    def all(self) -> list[ApiKey]:
        """Every key that is still known, oldest first."""
        return self._read(self._ids(0, -1))[::-1]

    def page(
        self, limit: int, *, tenant: str | None = None, after: str | None = None
    ) -> tuple[list[ApiKey], bool]:
        """At most `limit` keys, newest first, from behind the key `after` on; and whether there are more.

        Raises `InvalidRequest` where there is no such key any more.
        """
        found = dict[str, ApiKey]()
        start = 0 if after is None else self._place(after) + 1
        while len(found) <= limit:
            ids = self._ids(start, start + READ_AT_ONCE - 1)
            known = self._read(ids)
            found |= {key.id: key for key in known if tenant in (None, key.grant.tenant)}
            # Those that are gone are no longer in the index.
            start += len(known)
            if len(ids) < READ_AT_ONCE:
                break
        return list(found.values())[:limit], len(found) > limit

    def _place(self, key_id: str) -> int:
        with reachable():
            place = cast(int | None, self._redis.zrevrank(self._keys("api-keys"), key_id))
        if place is None:
            raise InvalidRequest(
                "The cursor is not one that a listing gave.", code="invalid_cursor"
            )
        return place

    def _ids(self, start: int, end: int) -> list[str]:
        """Ids of the index from one place to another, newest first."""
        with reachable():
            names = cast(list[bytes], self._redis.zrevrange(self._keys("api-keys"), start, end))
        return [name.decode() for name in names]

    def _read(self, ids: Sequence[str]) -> list[ApiKey]:
        """The keys of these ids that are still known; the others leave the index."""
        with reachable():
            pipe = self._redis.pipeline(transaction=False)
            for key_id in ids:
                pipe.hgetall(self._keys("api-key", key_id))
                pipe.get(self._keys("api-key-used", key_id))
            rows = pipe.execute()
            found = [_parsed(*row) for row in zip(ids, rows[::2], rows[1::2], strict=True)]
            gone = [key_id for key_id, key in zip(ids, found, strict=True) if key is None]
            if gone:
                self._redis.zrem(self._keys("api-keys"), *gone)
        return [key for key in found if key is not None]

    def revoke(self, key_id: str) -> None:
        """End a key now. May be repeated."""
        self._existing(key_id)
        with reachable():
            pipe = self._redis.pipeline(transaction=True)
            self._change(pipe, key_id, TOLD_FOR, "revoked", 1)
            pipe.execute()

    def update(self, key_id: str, **changes: int | float | str | None) -> tuple[ApiKey, ApiKey]:
        """Change members of an active key's grant, of `_CHANGED`: servers follow within a second.

        Returns the key before and after.
        """
        old, now = self._active(key_id), time.time()
        new = replace(old, grant=replace(old.grant, **changes))  # type: ignore[arg-type]
        if (expires := new.grant.expires) is not None and expires <= now:
            raise ConfigError("expires: this time has passed; revoke the key to end it now")
        fields, name = _fields(new), self._keys("api-key", key_id)
        with reachable():
            pipe = self._redis.pipeline(transaction=True)
            # What does not change is not written: two changes at once never undo each other.
            for field in changes.keys() & fields.keys():
                pipe.hset(name, field, fields[field])
            if gone := [field for field in changes if field not in fields]:
                pipe.hdel(name, *gone)
            pipe.expire(name, UNUSED_FOR if expires is None else _kept(expires - now))
            pipe.execute()
        return old, new

    def rotate(self, key_id: str, overlap: float = 0.0) -> tuple[ApiKey, str]:
        """A new key with the same rights; the old one ends `overlap` seconds from now."""
        old, now = self._active(key_id), time.time()
        end = min(now + overlap, old.grant.expires or math.inf)
        new, token = self._made(old.grant)
        with reachable():
            pipe = self._redis.pipeline(transaction=True)
            self._add(pipe, new)
            self._change(pipe, key_id, _kept(end - now), "expires", repr(end))
            pipe.execute()
        return new, token

    def touch(self, key: ApiKey, now: float) -> None:
        """Note that a key is in use, which keeps it."""
        with reachable():
            pipe = self._redis.pipeline(transaction=False)
            pipe.set(self._keys("api-key-used", key.id), int(now), ex=UNUSED_FOR)
            if key.grant.expires is None:
                # Of a key that a revoke met meanwhile this keeps the mark, for longer.
                pipe.expire(self._keys("api-key", key.id), UNUSED_FOR)
            pipe.expire(self._keys("api-keys"), _INDEX_TTL)
            pipe.execute()

    def _made(self, grant: Grant) -> tuple[ApiKey, str]:
        key_id, signer = secrets.token_hex(8), self._signer
        token = new_token(key_id)
        return ApiKey(key_id, grant, time.time(), signer.digest(token), signer.name), token

    def _existing(self, key_id: str) -> ApiKey:
        key = self.find(key_id)
        if key is None:
            raise ConfigError(
                f"there is no key {key_id!r}; `truthgpt keys list` shows those there are",
                code="api_key_not_found",
            )
        return key

    def _active(self, key_id: str) -> ApiKey:
        key = self._existing(key_id)
        if (state := key.state(time.time())) != "active":
            raise ConfigError(
                f"key {key_id} is {state}; create a new one instead", code="api_key_ended"
            )
        return key

    def _add(self, pipe: Any, key: ApiKey) -> None:
        name, expires = self._keys("api-key", key.id), key.grant.expires
        pipe.hset(name, mapping=_fields(key))
        pipe.expire(name, UNUSED_FOR if expires is None else _kept(expires - key.created))
        pipe.zadd(self._keys("api-keys"), {key.id: key.created})
        pipe.expire(self._keys("api-keys"), _INDEX_TTL)

    def _change(self, pipe: Any, key_id: str, ttl: int, field: str, value: Any) -> None:
        # One field alone: two changes at once never undo each other.
        name = self._keys("api-key", key_id)
        pipe.hset(name, field, value)
        pipe.expire(name, ttl)


def _kept(left: float) -> int:
    """Seconds to keep the record of a key that has so many left."""
    return max(0, int(left)) + TOLD_FOR


def _fields(key: ApiKey) -> dict[str, Any]:
    grant = key.grant
    numbers = {name: getattr(grant, name) for name in LIMITS}
    return {
        "tenant": grant.tenant,
        "scopes": " ".join(sorted(grant.scopes)),
        "created": repr(key.created),
        "digest": key.digest,
        "maker": key.maker,
        **{name: value for name, value in numbers.items() if value is not None},
        **({"expires": repr(grant.expires)} if grant.expires is not None else {}),
        **({"note": grant.note} if grant.note else {}),
    }


def _parsed(key_id: str, stored: Mapping[bytes, bytes], used: bytes | None) -> ApiKey | None:
    digest = stored.get(b"digest")
    if digest is None:
        return None
    text = {name.decode(): value.decode() for name, value in stored.items() if name != b"digest"}
    limits = {name: int(text[name]) for name in LIMITS if name in text}
    expires = float(text["expires"]) if "expires" in text else None
    scopes = frozenset(Scope(scope) for scope in text["scopes"].split())
    return ApiKey(
        id=key_id,
        grant=Grant(text["tenant"], scopes, **limits, expires=expires, note=text.get("note", "")),
        created=float(text["created"]),
        digest=digest,
        maker=text["maker"],
        revoked="revoked" in text,
        used=float(used) if used is not None else None,
    )
