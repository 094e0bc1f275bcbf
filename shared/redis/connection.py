"""Connections to Redis, with every timeout and bound set, and what its faults mean."""

import re
from contextlib import AbstractContextManager
from typing import Any, cast

from redis import Redis
from redis.backoff import ExponentialBackoff
from redis.connection import (
    Connection,
    ConnectionPool,
    SSLConnection,
    UnixDomainSocketConnection,
)
from redis.exceptions import (
    AuthenticationError,
    BusyLoadingError,
    NoPermissionError,
    NoScriptError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    ResponseError,
)
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError
from redis.retry import Retry

from shared.domain.errors import StorageFull, StoreUnavailable
from shared.redis.address import RedisAddress

MAX_CONNECTIONS = 512
AWAY = "Redis did not answer. Try again in a moment."
NOT_NOW = {
    "BUSY": "Redis is busy with a long script. Try again in a moment.",
    "MASTERDOWN": "Redis is a replica that has lost its primary. Try again in a moment.",
    "NOREPLICAS": "Redis takes no writes while so few of its replicas are there (min-replicas-to-write).",
}
"""Codes of answers by which Redis says that it does not serve at present, and what each is to who asked."""


def connect(url: str, timeout: float, *, retries: int = 1) -> Redis:
    """A Redis client whose every call ends within about `timeout` seconds.

    A lost connection is tried again at once (all scripts are idempotent); a timeout is not.
    Takes the URLs of `shared.redis.address`. Raises `ValueError` for any other.
    """
    address = RedisAddress.parse(url)
    options: dict[str, Any] = {
        "socket_timeout": timeout,
        "socket_connect_timeout": min(timeout, 1.0),
        "health_check_interval": 15,
        "max_connections": MAX_CONNECTIONS,
        "db": address.db,
        "retry": Retry(
            ExponentialBackoff(cap=0.1, base=0.02),
            retries,
            supported_errors=(RedisConnectionError,),
        ),
        **address.login,
        **address.options,
        **(address.tls or {}),
    }
    if address.path:
        kind: Any = UnixDomainSocketConnection
        options["path"] = address.path
    else:
        kind = SSLConnection if address.tls is not None else Connection
        options["socket_keepalive"] = True
        if address.sentinel:
            return _sentinel(address, options)
        options["host"], options["port"] = address.nodes[0]
    return Redis.from_pool(ConnectionPool(connection_class=kind, **options))


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


def _sentinel(address: RedisAddress, options: dict[str, Any]) -> Redis:
    from redis.sentinel import Sentinel

    timeouts = {"socket_timeout": 1.0, "socket_connect_timeout": 1.0}
    sentinel: Any = Sentinel(  # type: ignore[no-untyped-call]
        address.nodes, sentinel_kwargs={**timeouts, **address.to_sentinels}
    )
    encrypted = {"ssl": True} if address.tls is not None else {}
    return cast(Redis, sentinel.master_for(address.service, **encrypted, **options))


class _Reachable:
    """A class, for a generator made into a context costs more than the look at what came out."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, RedisError) and (meaning := meaning_of(error)):
            raise meaning from error


_reachable = _Reachable()


def reachable() -> AbstractContextManager[None]:
    """Turns every fault of Redis into `StoreUnavailable`."""
    return _reachable


def unavailable(error: RedisError) -> StoreUnavailable:
    """A fault of Redis as an answer, where it is one of Redis' whatever it is."""
    return meaning_of(error) or StoreUnavailable(AWAY)


def meaning_of(error: RedisError) -> StoreUnavailable | None:
    """What a fault means to who asked; None for what a script or a command says is wrong with itself."""
    if isinstance(error, OutOfMemoryError):
        return StorageFull("Redis takes no writes now (memory is full).")
    if isinstance(error, AuthenticationError):
        return StoreUnavailable("Redis refuses the credentials in REDIS_URL.")
    if (denied := denial(error)) is not None:
        return StoreUnavailable(
            f"Redis denies this server's user {denied}; its administrator must allow it (ACL)."
        )
    # A script that was brought back may be forgotten once more before it runs.
    if isinstance(error, ResponseError) and not isinstance(
        error, (BusyLoadingError, ReadOnlyError, NoScriptError)
    ):
        # As a script's own error these come without a class of their own.
        if "OOM" in str(error) or "MISCONF" in str(error):
            return StorageFull("Redis takes no writes now (memory or disk is full).")
        code = next((code for code in NOT_NOW if re.search(rf"\b{code}\b", str(error))), None)
        return StoreUnavailable(NOT_NOW[code]) if code is not None else None
    return StoreUnavailable(AWAY)


def denial(error: Exception) -> str | None:
    """What an access control list denied: a command by name, a key, a channel. None for other faults."""
    said = str(error)
    # As a script's own error it comes without a class of its own.
    if (
        not isinstance(error, NoPermissionError)
        and "ACL failure" not in said
        and "NOPERM" not in said
    ):
        return None
    command = re.search(r"permissions to run the '([^']+)' command", said)
    if command is not None:
        return f"the command {command[1]}"
    return "a channel" if "channel" in said else "a key"
