"""What Redis must be so that nothing accepted is lost: never evicting, and with room to finish what runs."""

import logging
import threading
import time
from typing import Any

from redis import Redis
from redis.exceptions import RedisError

from shared.errors import ConfigError, StorageFull

FULL = 0.9
"""Share of maxmemory from which no new job is taken: the rest is for those that run."""
LOOK_SECONDS = 1.0
TENANTS_SHARE = 0.5
"""Share of what Redis may take that one tenant may fill, where nothing else is said."""

_log = logging.getLogger(__name__)


def require_noeviction(redis: Redis) -> None:
    """Refuse a Redis that throws keys away when it is full, for a key may be an accepted job.

    Raises `ConfigError`. A Redis that cannot be asked (away, or CONFIG forbidden) gets a warning.
    """
    try:
        answer: Any = redis.config_get("maxmemory-policy")
    except RedisError as error:
        _log.warning("cannot read Redis's maxmemory-policy (%s); it must be noeviction", error)
        return
    policy = answer.get("maxmemory-policy") or answer.get(b"maxmemory-policy")
    policy = policy.decode() if isinstance(policy, bytes) else policy
    if policy not in (None, "noeviction"):
        raise ConfigError(
            f"REDIS_URL: its maxmemory-policy is {policy!r}, which throws accepted jobs away when "
            "memory runs out; set it to noeviction"
        )


class MemoryGuard:
    """Refuses new jobs before Redis is full. Looks at most once a second, whatever the load."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._lock = threading.Lock()
        self._looked = -LOOK_SECONDS
        self._full = False
        self._one_tenants = 0

    @property
    def one_tenants(self) -> int:
        """Bytes that one tenant may take where nothing else is said; 0 while that is not known."""
        self._look_now_and_then()
        return self._one_tenants

    def admit(self) -> None:
        """Raises `StorageFull` when used memory is over `FULL` of maxmemory."""
        self._look_now_and_then()
        if self._full:
            raise StorageFull(
                "Redis is nearly full, and what is left is kept for running jobs. Try again later."
            )

    def _look_now_and_then(self) -> None:
        now = time.monotonic()
        if now - self._looked >= LOOK_SECONDS and self._lock.acquire(blocking=False):
            try:
                self._looked = now
                self._full = self._look()
            finally:
                self._lock.release()

    def _look(self) -> bool:
        try:
            memory: Any = self._redis.info("memory")
        except RedisError:
            return False
        limit = int(memory.get("maxmemory", 0))
        self._one_tenants = int(
            TENANTS_SHARE * (limit or int(memory.get("total_system_memory", 0)))
        )
        return limit > 0 and int(memory["used_memory"]) > FULL * limit
