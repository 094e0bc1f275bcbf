"""Script calls of the job store: connection, keys, and what every part of the store needs of them."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

from redis import Redis
from redis.exceptions import RedisError

from shared.redis.connection import meaning_of, reachable
from shared.redis.guard import MemoryGuard
from shared.redis.script_pipeline import ScriptPipeline
from shared.store.keys import Keys
from shared.store.scripts import RETENTION, Scripts

ANY_TENANT = "*"
UNBOUNDED = 2**53


class ScriptCalls:
    """One Redis, one key prefix. `retention` and `lease` are in seconds. Safe to share between threads."""

    def __init__(
        self,
        redis: Redis,
        prefix: str = "truthgpt",
        *,
        retention: int = RETENTION,
        lease: float = 15.0,
    ) -> None:
        self.redis = redis
        self.keys = Keys(prefix)
        self.retention = retention
        self.lease = lease
        self._memory = MemoryGuard(redis)
        self._pipeline = ScriptPipeline(redis)
        self._scripts = Scripts(redis, prefix, retention)

    def watch(self, around: Callable[[], AbstractContextManager[object]]) -> None:
        """Make every script call inside a context of its own."""
        self._pipeline.around = around

    def call(self, script: str, *args: Any) -> Any:
        """Run a script of shared/store/lua for another store on the same keys."""
        return self._call(script, *args)

    def ping(self) -> None:
        """Raise `StoreUnavailable` unless Redis answers."""
        with reachable():
            self.redis.ping()

    def _call(self, name: str, *args: Any) -> Any:
        return self._send(self._pipeline.call, name, args)

    def _call_for(self, name: str, thing: bytes) -> Any:
        """What a script that takes many things answers for this one; those that meet go in one call."""
        return self._send(self._pipeline.call_for, name, thing)

    def _send(self, send: Callable[[Any, Any], Any], name: str, given: Any) -> Any:
        try:
            return send(self._scripts[name], given)
        except RedisError as error:
            if (meaning := meaning_of(error)) is not None:
                raise meaning from error
            raise


def parse_change(text: bytes) -> tuple[str, str] | None:
    """What a breaker was and is, as scripts tell it ('old new'); None where it has not changed."""
    old, _, new = text.decode().partition(" ")
    return (old, new) if new else None
