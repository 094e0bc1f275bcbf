"""Signing secrets of tenants, several at once while one takes another's place.

No secret is stored. Redis holds ids, and a secret is the HMAC-SHA256 of its tenant and id under the server's
own (`shared.settings.key_secret`): who reads Redis cannot sign, who writes to it cannot choose a secret.
"""

import base64
import hashlib
import hmac
import logging
import math
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass

from redis import Redis

from shared.domain.errors import ConfigError
from shared.redis.connection import reachable
from shared.store.api_keys import TENANT, TOLD_FOR, UNUSED_FOR
from shared.store.keys import Keys
from shared.webhooks.signing import MAX_SECRETS, PREFIX, Keyring

TOLD = "told"
"""The id of the secret of a tenant that has none of its own; those are random hex."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class WebhookSecret:
    """What is known of a secret. Times are Unix seconds; `maker` tells the server's secrets apart."""

    id: str
    maker: str
    created: float
    ends: float = math.inf

    def active(self, now: float) -> bool:
        return now < self.ends


class WebhookSecrets:
    """Methods raise `StoreUnavailable`, those that change something `ConfigError`.

    `server_secret` is asked when first needed and may raise `ConfigError`; `fallback` signs for tenants
    without a secret of their own.
    """

    def __init__(
        self, redis: Redis, keys: Keys, server_secret: Callable[[], str], fallback: Keyring
    ) -> None:
        self._redis = redis
        self._keys = keys
        self._server_secret = server_secret
        self._fallback = fallback

    def keyring(self, tenant: str) -> Keyring:
        """What a tenant's webhooks are signed with; empty where nothing here can sign them."""
        own = [known for known in self._stored(tenant) if known.active(time.time())]
        if not own:
            return self._fallback
        try:
            maker = self._maker()
        except ConfigError as error:
            _log.error("webhooks of tenant %s cannot be signed here: %s", tenant, error)
            return Keyring(())
        mine = [known for known in own if known.maker == maker_name(maker)]
        if len(mine) < len(own):
            _log.error(
                "tenant %s has webhook secrets that were made under another TRUTHGPT_KEY_SECRET, or "
                "TRUTHGPT_API_TOKEN in its place",
                tenant,
            )
        return Keyring([derived(maker, tenant, known.id) for known in reversed(mine)])

    def all(self, tenant: str) -> list[WebhookSecret]:
        """A tenant's secrets, those that ended lately too, oldest first."""
        return self._stored(tenant)

    def rotate(self, tenant: str, overlap: float) -> tuple[WebhookSecret, str]:
        """A new secret, and its text, which nothing shows again; the others sign `overlap` seconds longer."""
        if not TENANT.fullmatch(tenant):
            raise ConfigError(f"tenant: 1 to 64 letters, digits, '_' and '-', not {tenant[:80]!r}")
        maker, now = self._maker(), time.time()
        known = self._stored(tenant)
        active = [one for one in known if one.active(now)]
        if len(active) >= MAX_SECRETS:
            raise ConfigError(f"{tenant} has {len(active)} active secrets; revoke some first")
        made = WebhookSecret(secrets.token_hex(8), maker_name(maker), now)
        ending = [_ends(one, min(one.ends, now + overlap)) for one in active]
        self._store(
            tenant, [made, *ending], forget=[o.id for o in known if o.ends < now - TOLD_FOR]
        )
        return made, secret_text(derived(maker, tenant, made.id))

    def told(self, tenant: str) -> str:
        """The secret that a tenant is told by the API, for those who receive predictions: its own newest one;
        where it has none, one that lasts as long as the server's.
        """
        newest, *_ = self._told(tenant)
        return secret_text(newest)

    def told_keyring(self, tenant: str) -> Keyring:
        """What predictions of a tenant are signed with; empty where nothing here can sign them."""
        try:
            return Keyring(self._told(tenant))
        except ConfigError as error:
            _log.error("predictions of tenant %s cannot be signed here: %s", tenant, error)
            return Keyring(())

    def _told(self, tenant: str) -> list[bytes]:
        maker, now = self._maker(), time.time()
        mine = [o for o in self._stored(tenant) if o.active(now) and o.maker == maker_name(maker)]
        return [derived(maker, tenant, known.id) for known in reversed(mine)] or [
            derived(maker, tenant, TOLD)
        ]

    def revoke(self, tenant: str, secret_id: str) -> None:
        """End a secret now; what is sent from here on is not signed with it. May be repeated."""
        now = time.time()
        for known in self._stored(tenant):
            if known.id == secret_id:
                self._store(tenant, [_ends(known, min(known.ends, now))])
                return
        raise ConfigError(f"tenant {tenant!r} has no webhook secret {secret_id!r}")

    def _maker(self) -> bytes:
        return maker_of(self._server_secret)

    def _stored(self, tenant: str) -> list[WebhookSecret]:
        key = self._keys("webhook-secrets", tenant)
        with reachable():
            pipe = self._redis.pipeline(transaction=False)
            pipe.hgetall(key)
            # Each use keeps it, as with API keys.
            pipe.expire(key, UNUSED_FOR)
            rows, _ = pipe.execute()
        found = [_parsed(name.decode(), row.decode()) for name, row in rows.items()]
        return sorted(found, key=lambda known: known.created)

    def _store(
        self, tenant: str, rows: list[WebhookSecret], forget: list[str] | None = None
    ) -> None:
        key = self._keys("webhook-secrets", tenant)
        with reachable():
            pipe = self._redis.pipeline(transaction=True)
            pipe.hset(key, mapping={o.id: f"{o.maker} {o.created!r} {o.ends!r}" for o in rows})
            if forget:
                pipe.hdel(key, *forget)
            pipe.expire(key, UNUSED_FOR)
            pipe.execute()


def _parsed(secret_id: str, row: str) -> WebhookSecret:
    maker, created, ends = row.split(" ")
    return WebhookSecret(secret_id, maker, float(created), float(ends))


def _ends(known: WebhookSecret, moment: float) -> WebhookSecret:
    return WebhookSecret(known.id, known.maker, known.created, moment)


def maker_of(server_secret: Callable[[], str]) -> bytes:
    """What the secrets of tenants are derived from. Raises `ConfigError` where the server has no secret."""
    return hmac.digest(server_secret().encode(), b"truthgpt webhook secret v1", hashlib.sha256)


def maker_name(maker: bytes) -> str:
    """What tells secrets that were made under another secret of the server's."""
    return hmac.digest(maker, b"name", hashlib.sha256).hex()[:8]


def derived(maker: bytes, owner: str, secret_id: str) -> bytes:
    """The secret of this id. `owner` is its tenant, or `tenant.endpoint`."""
    return hmac.digest(maker, f"{owner}.{secret_id}".encode(), hashlib.sha256)


def secret_text(secret: bytes) -> str:
    """A secret as all receivers take it: without `whsec_` OpenAI's client reads the bytes of the text."""
    return PREFIX + base64.b64encode(secret).decode()
