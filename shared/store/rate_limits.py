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

from shared.hooks import Observers
from shared.redis.script_pipeline import ScriptPipeline
from shared.store.keys import Keys
from shared.store.scripts import whole_script
from shared.store.sliding_window import Charge, LocalWindows, Policy, Standing

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


class Decision(msgspec.Struct, frozen=True):
    """What became of a request. `refused` is the policy that it has to wait for longest, if any."""

    standings: tuple[Standing, ...]
    refused: Standing | None = None


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

    `redis` should answer or fail within `TIMEOUT`. While it does not, each process counts for itself, so a
    client may take its quota once from each. `clock` gives milliseconds, of Redis where it is None.
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
        self._courier = ScriptPipeline(redis)
        self._script = redis.register_script(whole_script(SCRIPT, keys.prefix))
        self._local = LocalWindows()
        self._away_until = 0.0

    def take(self, client: str, charges: Sequence[Charge]) -> Decision:
        """Take all charges, or none when one of them does not fit. Never raises for a Redis that is away."""
        return _decision(charges, *self._take(client, charges))

    def _take(self, client: str, charges: Sequence[Charge]) -> tuple[bool, list[Standing]]:
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

    def _shared(self, client: str, charges: Sequence[Charge]) -> tuple[bool, list[Standing]]:
        packed = self.packed(client, charges)
        admitted, *rows = self._courier.call(self._script, (packed, ""))
        return bool(admitted), _standings(charges, rows)

    def packed(self, client: str, charges: Sequence[Charge]) -> bytes:
        """What a request costs, as scripts take it (shared/store/lua/rates.lua)."""
        at = self._clock() if self._clock is not None else 0
        return _packed(client, at, tuple(charges))

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
def _packed(client: str, at: int, charges: tuple[Charge, ...]) -> bytes:
    costs = [
        (one.policy.name, one.policy.quota, one.policy.seconds * 1000, one.cost) for one in charges
    ]
    return _pack((client, at, costs))


def decided(charges: Sequence[Charge], admitted: bool, rows: Sequence[int]) -> Decision:
    """A decision that a script has taken, from what it returned of each policy."""
    return _decision(charges, admitted, _standings(charges, rows))


def _decision(charges: Sequence[Charge], admitted: bool, standings: list[Standing]) -> Decision:
    if admitted:
        return Decision(tuple(standings))
    short = [
        standing
        for charge, standing in zip(charges, standings, strict=True)
        if standing.used + charge.cost > standing.policy.quota
    ]
    return Decision(tuple(standings), max(short, key=lambda standing: standing.wait_ms))


def _standings(charges: Sequence[Charge], rows: Sequence[int]) -> list[Standing]:
    return [
        Standing(charge.policy, used, wait, refused)
        for charge, (_, used, wait, refused) in zip(charges, _by_four(rows), strict=True)
    ]


def _by_four(rows: Sequence[int]) -> list[tuple[int, int, int, int]]:
    return list(zip(*(iter(rows),) * 4, strict=True))
