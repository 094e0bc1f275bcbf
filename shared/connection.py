"""Connections to Redis, with every timeout and bound set, and what its faults mean."""

from contextlib import AbstractContextManager
from typing import Any, cast

from redis import Redis
from redis.backoff import ExponentialBackoff
from redis.exceptions import (
    AuthenticationError,
    BusyLoadingError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    ResponseError,
)
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError
from redis.retry import Retry

from shared.errors import StorageFull, StoreUnavailable
from shared.sentinel_url import SentinelUrl

MAX_CONNECTIONS = 512


def connect(url: str, timeout: float, *, retries: int = 1) -> Redis:
    """A Redis client whose every call ends within about `timeout` seconds.

    A lost connection is tried again at once (all scripts are idempotent); a timeout is not.
    Takes redis://, rediss://, unix:// and sentinel://host:port,host:port/service/db URLs.
    """
    options: dict[str, Any] = {
        "socket_timeout": timeout,
        "socket_connect_timeout": min(timeout, 1.0),
        "socket_keepalive": True,
        "health_check_interval": 15,
        "retry": Retry(
            ExponentialBackoff(cap=0.1, base=0.02),
            retries,
            supported_errors=(RedisConnectionError,),
        ),
    }
    if (sentinel := SentinelUrl.parse(url)) is not None:
        return _sentinel(sentinel, options)
    return Redis.from_url(url, max_connections=MAX_CONNECTIONS, **options)


def subscriber(pool: Any, timeout: float) -> Any:
    """A connection for subscriptions, connected, whose reads end within `timeout` seconds.

    Of the pool's kind, but not of its number: it never goes back. Raises what redis-py raises.
    """
    connection = pool.connection_class(**pool.connection_kwargs)
    connection.protocol = 2
    connection.socket_timeout = timeout
    connection.connect()
    return connection


def heard(connection: Any, patience: float) -> list[Any]:
    """What comes next on a subscribed connection. redis-py's `PubSub` makes eight system calls for it.

    Where nothing came for the connection's time it is idle, or half open: a PING that stays unanswered for
    `patience` seconds tells. Raises what redis-py raises.
    """
    message: list[Any]
    try:
        message = connection.read_response(disconnect_on_error=False)
    except RedisTimeoutError:
        connection.send_command("PING", check_health=False)
        message = connection.read_response(disconnect_on_error=False, timeout=patience)
    return message


def _sentinel(url: SentinelUrl, options: dict[str, Any]) -> Redis:
    from redis.sentinel import Sentinel

    if url.password is not None:
        options["password"] = url.password
    sentinel: Any = Sentinel(url.nodes, socket_timeout=1.0, socket_connect_timeout=1.0)  # type: ignore[no-untyped-call]
    return cast(
        Redis,
        sentinel.master_for(url.service, db=url.db, max_connections=MAX_CONNECTIONS, **options),
    )


class _Reachable:
    """A class, for a generator made into a context costs more than the look at what came out."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, RedisError) and (meaning := _meaning(error)):
            raise meaning from error


_reachable = _Reachable()


def reachable() -> AbstractContextManager[None]:
    """Turns every fault of Redis into `StoreUnavailable`."""
    return _reachable


def _meaning(error: RedisError) -> StoreUnavailable | None:
    """What a fault means to who asked; None for what a script or a command says is wrong with itself."""
    if isinstance(error, OutOfMemoryError):
        return StorageFull("Redis takes no writes now (memory is full).")
    if isinstance(error, AuthenticationError):
        return StoreUnavailable("Redis refuses the credentials in REDIS_URL.")
    if isinstance(error, ResponseError) and not isinstance(
        error, (BusyLoadingError, ReadOnlyError)
    ):
        # As a script's own error these come without a class of their own.
        if "OOM" in str(error) or "MISCONF" in str(error):
            return StorageFull("Redis takes no writes now (memory or disk is full).")
        return None
    return StoreUnavailable("Redis did not answer. Try again in a moment.")
