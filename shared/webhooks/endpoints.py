"""Endpoints of tenants for the events of OpenAI's API: where they go, which of them, signed by which secret.

As with secrets of tenants (`shared.webhooks.secrets`) no secret is stored: each is derived from the server's
own, the endpoint's tenant and id, and its own id.
"""

import secrets
import time
from collections.abc import Callable, Sequence
from typing import Any, cast

import msgspec
from msgspec.structs import replace
from redis import Redis
from redis.client import Pipeline

from shared.domain.errors import ConfigError, JobsError
from shared.redis.connection import reachable
from shared.store.api_keys import UNUSED_FOR
from shared.store.keys import Keys
from shared.webhooks.secrets import derived, maker_name, maker_of, secret_text
from shared.webhooks.signing import MAX_SECRETS, Keyring
from shared.webhooks.urls import Target

EVENTS = (
    *("response.completed", "response.failed", "response.cancelled", "response.incomplete"),
    *("batch.completed", "batch.failed", "batch.expired", "batch.cancelled"),
)
MOST = 16
"""Endpoints that one tenant may have."""


class EndpointNotFound(JobsError):
    code = "webhook_endpoint_not_found"

    def __init__(self, endpoint_id: str) -> None:
        super().__init__(f"There is no webhook endpoint {endpoint_id[:80]!r}.")


class TooManyEndpoints(JobsError):
    code = "too_many_webhook_endpoints"


class EndpointSecret(msgspec.Struct, frozen=True):
    """A secret by its id. `maker` tells the server's secrets apart; it signs until `ends`, None: for good."""

    id: str
    maker: str
    ends: float | None = None


class Endpoint(msgspec.Struct, frozen=True):
    """An endpoint as Redis holds it; shared/store/lua/lib/outbox.lua reads `url`, `receiver` and `events`.

    Times are Unix seconds. The newest secret is the first.
    """

    url: str
    receiver: str
    name: str
    events: tuple[str, ...]
    created: float
    updated: float
    secrets: tuple[EndpointSecret, ...] = ()


_DECODE = msgspec.json.Decoder(Endpoint).decode
Change = Callable[[Endpoint], Endpoint]


class Endpoints:
    """Methods raise `StoreUnavailable`; those that make a secret `ConfigError` where the server has none.

    `server_secret` is asked when first needed. A tenant's endpoints are forgotten once neither a call nor an
    event has touched any of them for `UNUSED_FOR` seconds.
    """

    def __init__(self, redis: Redis, keys: Keys, server_secret: Callable[[], str]) -> None:
        self._redis = redis
        self._keys = keys
        self._server_secret = server_secret

    def all(self, tenant: str) -> dict[str, Endpoint]:
        """A tenant's endpoints by their ids, the newest first."""
        key = self._keys("endpoints", tenant)
        with reachable():
            pipe = self._redis.pipeline(transaction=False)
            pipe.hgetall(key)
            pipe.expire(key, UNUSED_FOR)
            rows, _ = pipe.execute()
        found = {name.decode(): _DECODE(row) for name, row in rows.items()}
        ordered = sorted(found.items(), key=lambda one: (one[1].created, one[0]), reverse=True)
        return dict(ordered)

    def get(self, tenant: str, endpoint_id: str) -> Endpoint:
        """Raises `EndpointNotFound`."""
        found = self.all(tenant).get(endpoint_id)
        if found is None:
            raise EndpointNotFound(endpoint_id)
        return found

    def create(
        self, tenant: str, target: Target, name: str, events: Sequence[str]
    ) -> tuple[str, Endpoint, str]:
        """A new endpoint's id, itself and its secret's text. Raises `TooManyEndpoints`."""
        now, maker, key = time.time(), self._maker(), self._keys("endpoints", tenant)
        endpoint_id = f"we_{secrets.token_hex(16)}"
        secret = _secret(maker)
        made = Endpoint(
            target.url, target.receiver, name, tuple(dict.fromkeys(events)), now, now, (secret,)
        )

        def put(pipe: Pipeline) -> None:
            if pipe.hlen(key) >= MOST:
                raise TooManyEndpoints(f"You have {MOST} webhook endpoints. Delete one first.")
            pipe.multi()
            pipe.hset(key, endpoint_id, msgspec.json.encode(made))
            pipe.expire(key, UNUSED_FOR)

        with reachable():
            self._redis.transaction(put, key)
        return endpoint_id, made, secret_text(derived(maker, f"{tenant}.{endpoint_id}", secret.id))

    def update(self, tenant: str, endpoint_id: str, **changes: Any) -> Endpoint:
        """Change `url` and `receiver`, `name` or `events`. Raises `EndpointNotFound`."""

        def changed(known: Endpoint) -> Endpoint:
            made = replace(known, **changes)
            return known if made == known else replace(made, updated=time.time())

        return self._change(tenant, endpoint_id, changed)

    def rotate(self, tenant: str, endpoint_id: str, overlap: float) -> tuple[Endpoint, str]:
        """Give an endpoint a new secret; the others sign `overlap` seconds longer.

        Returns the secret's text as well. Raises `EndpointNotFound`.
        """
        maker, now = self._maker(), time.time()
        secret = _secret(maker)

        def rotated(known: Endpoint) -> Endpoint:
            old = [
                replace(one, ends=min(one.ends or now + overlap, now + overlap))
                for one in known.secrets
                if overlap > 0 and (one.ends is None or one.ends > now)
            ]
            return replace(known, updated=now, secrets=(secret, *old[: MAX_SECRETS - 1]))

        made = self._change(tenant, endpoint_id, rotated)
        return made, secret_text(derived(maker, f"{tenant}.{endpoint_id}", secret.id))

    def delete(self, tenant: str, endpoint_id: str) -> None:
        """What it was to be told and has not been is given up. Raises `EndpointNotFound`."""
        with reachable():
            if not self._redis.hdel(self._keys("endpoints", tenant), endpoint_id):
                raise EndpointNotFound(endpoint_id)

    def keyring(self, tenant: str, endpoint_id: str) -> Keyring | None:
        """What messages to an endpoint are signed with, empty where nothing here can; None: it is gone."""
        known = self.all(tenant).get(endpoint_id)
        if known is None:
            return None
        try:
            maker = self._maker()
        except ConfigError:
            return Keyring(())
        now, name = time.time(), maker_name(maker)
        active = [
            one
            for one in known.secrets
            if one.maker == name and (one.ends is None or one.ends > now)
        ]
        return Keyring([derived(maker, f"{tenant}.{endpoint_id}", one.id) for one in active])

    def hint(self, tenant: str, endpoint_id: str, known: Endpoint) -> str | None:
        """The end of an endpoint's newest secret; None where it cannot be made here."""
        try:
            maker = self._maker()
        except ConfigError:
            return None
        newest = known.secrets[0]
        if newest.maker != maker_name(maker):
            return None
        return f"whsec_…{secret_text(derived(maker, f'{tenant}.{endpoint_id}', newest.id))[-5:]}"

    def _change(self, tenant: str, endpoint_id: str, change: Change) -> Endpoint:
        key = self._keys("endpoints", tenant)
        made: list[Endpoint] = []

        def put(pipe: Pipeline) -> None:
            row = cast(bytes | None, pipe.hget(key, endpoint_id))
            if row is None:
                raise EndpointNotFound(endpoint_id)
            made[:] = [change(_DECODE(row))]
            pipe.multi()
            pipe.hset(key, endpoint_id, msgspec.json.encode(made[0]))
            pipe.expire(key, UNUSED_FOR)

        with reachable():
            self._redis.transaction(put, key)
        return made[0]

    def _maker(self) -> bytes:
        return maker_of(self._server_secret)


def _secret(maker: bytes) -> EndpointSecret:
    return EndpointSecret(secrets.token_hex(8), maker_name(maker))
