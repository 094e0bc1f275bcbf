"""Rate limits of clients: one Redis round trip for all policies of a request, in-process without Redis."""

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import cast

import msgspec
from redis import Redis
from redis.exceptions import RedisError

from shared.domain.quotas import Charge, ClientCharges, Decision, Policy, QuotaStatus
from shared.hooks import Observers
from shared.redis.script_pipeline import ScriptPipeline
from shared.store.keys import Keys
from shared.store.scripts import whole_script
from shared.store.token_buckets import TokenBuckets

TIMEOUT = 0.2
"""Seconds that Redis has for a decision: the request itself still has to be served in time."""
AWAY_SECONDS = 1.0
"""How long this process decides alone before it asks Redis again."""
MOST_SHOWN = 100
MOST_PACKED = 1024
"""Clients whose charges are kept as scripts take them."""

SCRIPT = Path(__file__).parent / "lua" / "charge.lua"
_pack = msgspec.msgpack.Encoder().encode
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Usage:
    """What a client took of a policy lately; `quota` is the one last applied to it."""

    client: str
    policy: str
    seconds: int
    quota: int
    used: int
    refused: int


class RateLimiter:
    """Takes and refuses. Safe to share between threads.

    `redis` should answer or fail within `TIMEOUT`. While it does not, each process counts for itself, in
    token buckets: a client may take from each its quota, and what comes back meanwhile. `clock` gives
    milliseconds, of Redis where it is None.
    """

    def __init__(
        self,
        redis: Redis,
        keys: Keys,
        observers: Observers | None = None,
        clock: Callable[[], int] | None = None,
    ) -> None:
        self._redis = redis
        self._keys = keys
        self._observers = observers or Observers()
        self._clock = clock
        self._pipeline = ScriptPipeline(redis)
        self._script = redis.register_script(whole_script(SCRIPT, keys.prefix))
        self._local = TokenBuckets()
        self._away_until = 0.0

    def take(self, client: str, charges: Sequence[Charge]) -> Decision:
        """Take all charges, or none when one of them does not fit. Never raises for a Redis that is away."""
        return _decision(charges, *self._take(client, tuple(charges)))

    def _take(self, client: str, charges: tuple[Charge, ...]) -> tuple[bool, list[QuotaStatus]]:
        if time.monotonic() >= self._away_until:
            try:
                return self._shared(client, charges)
            except RedisError as error:
                now = time.monotonic()
                if now >= self._away_until:
                    # The first of those whose calls failed together says it for all.
                    _log.warning("rate limits are counted in this process alone: %s", error)
                self._away_until = now + AWAY_SECONDS
        self._observers.emit("limiter_local")
        at = self._clock() if self._clock is not None else time.time_ns() // 1_000_000
        return self._local.take(client, charges, at)

    def _shared(self, client: str, charges: tuple[Charge, ...]) -> tuple[bool, list[QuotaStatus]]:
        at = self._clock() if self._clock is not None else 0
        args = (packed(ClientCharges(client, charges), at), "")
        admitted, *rows = self._pipeline.call(self._script, args)
        return bool(admitted), _quota_status(charges, rows)

    def usage(self, policies: Sequence[Policy], client: str | None = None) -> list[Usage]:
        """What `client`, or each of the `MOST_SHOWN` clients seen last, took of these policies.

        Raises `RedisError`.
        """
        clients = [client] if client is not None else self._latest()
        at = self._clock() if self._clock is not None else 0
        as_applied = [(policy.name, -1, policy.seconds * 1000, 0) for policy in policies]
        pipe = self._redis.pipeline(transaction=False)
        for name in clients:
            looked = _pack((name, at, as_applied))
            self._script(args=(looked, "1"), client=pipe)
        found = []
        for name, (_, *rows) in zip(clients, pipe.execute(), strict=True):
            for policy, (quota, used, _, refused) in zip(policies, _by_four(rows), strict=True):
                if used or refused:
                    row = Usage(name, policy.name, policy.seconds, quota, used, refused)
                    found.append(row)
        return found

    def _latest(self) -> list[str]:
        newest = self._redis.zrevrange(self._keys("clients"), 0, MOST_SHOWN - 1)
        return [name.decode() for name in cast(list[bytes], newest)]


@lru_cache(maxsize=MOST_PACKED)
def packed(charged: ClientCharges, at: int = 0) -> bytes:
    """What a request costs, as scripts take it (lua/lib/rates.lua). `at`: ms, 0: by Redis' clock."""
    costs = [
        (one.policy.name, one.policy.quota, one.policy.seconds * 1000, one.cost)
        for one in charged.charges
    ]
    return _pack((charged.client, at, costs))


def decided(charges: Sequence[Charge], admitted: bool, rows: Sequence[int]) -> Decision:
    """A decision that a script has taken, from what it returned of each policy."""
    return _decision(charges, admitted, _quota_status(charges, rows))


def _decision(
    charges: Sequence[Charge], admitted: bool, quota_status: list[QuotaStatus]
) -> Decision:
    if admitted:
        return Decision(tuple(quota_status))
    short = [
        status
        for charge, status in zip(charges, quota_status, strict=True)
        if status.used + charge.cost > status.policy.quota
    ]
    return Decision(tuple(quota_status), max(short, key=lambda status: status.wait_ms))


def _quota_status(charges: Sequence[Charge], rows: Sequence[int]) -> list[QuotaStatus]:
    return [
        QuotaStatus(charge.policy, used, wait, refused)
        for charge, used, wait, refused in zip(
            charges, rows[1::4], rows[2::4], rows[3::4], strict=True
        )
    ]


def _by_four(rows: Sequence[int]) -> list[tuple[int, int, int, int]]:
    return list(zip(*(iter(rows),) * 4, strict=True))
