"""What Redis must be so that nothing accepted is lost: one primary that never evicts, with room to spare."""

import logging
import os
import re
import socket
import ssl
import threading
import time
from collections.abc import Iterator, Mapping
from typing import Any, cast

from redis import Redis
from redis.exceptions import (
    AuthenticationError,
    BusyLoadingError,
    NoPermissionError,
    RedisError,
    ResponseError,
)
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from shared.domain.errors import ConfigError, StorageFull
from shared.redis.address import RedisAddress
from shared.redis.connection import connect, denial

OLDEST = (6, 2)
"""The oldest release of Redis that has all commands of the job store."""
FULL = 0.9
"""Share of maxmemory from which no new job is taken: the rest is for those that run."""
LOOK_SECONDS = 1.0
PROBE_SECONDS = 1.0
NO_CERTIFICATE = "; where it wants a client's certificate name it by ssl_certfile= and ssl_keyfile="
ANNOUNCED = "TRUTHGPT_REDIS_ANNOUNCED"
"""Set for the processes of a launcher, which has said already what `require_fit` warns of."""
TENANTS_SHARE = 0.5
"""Share of what Redis may take that one tenant may fill, where nothing else is said."""

_log = logging.getLogger(__name__)


def require_fit(url: str, timeout: float, prefix: str) -> None:
    """Refuse a Redis that cannot serve, with what to do about it; warn of what could not be found out.

    One that does not answer, or is still loading, is no fault of the settings: the processes wait for it.
    Raises `ConfigError`.
    """
    for warning in look(url, timeout, prefix):
        _log.log(logging.DEBUG if ANNOUNCED in os.environ else logging.WARNING, "%s", warning)


def look(url: str, timeout: float, prefix: str) -> list[str]:
    """What a person should know of this Redis, a sentence each. Raises as `require_fit` does.

    `prefix` is that of our keys: others may be denied.
    """
    address = RedisAddress.parse(url)
    warnings = []
    if address.unverified:
        warnings.append(
            f"REDIS_URL: ssl_cert_reqs=none, so whoever answers as {address} gets the password; to check "
            "its certificate leave that out and name its CA in REDIS_CA_FILE"
        )
    with connect(url, timeout, retries=0) as redis:
        try:
            redis.ping()
        except RedisError as error:
            _refuse_unless_away(address, error)
            hint = "" if address.tls is None or "ssl_certfile" in address.tls else NO_CERTIFICATE
            return [*warnings, f"REDIS_URL: {address} does not answer yet ({error}){hint}"]
        try:
            _require_one_server(redis, address, prefix)
            warnings += _unheard(redis, address, prefix)
            _require_fit(address, _facts(redis))
        except (NoPermissionError, ResponseError) as error:
            warnings.append(
                f"REDIS_URL: cannot find out whether {address} is fit (denied {denial(error) or error}); it "
                "must be one primary, 6.2 or newer, with the maxmemory-policy noeviction"
            )
        except RedisError as error:
            warnings.append(f"REDIS_URL: {address} answers no more ({error})")
    return warnings


def _refuse_unless_away(address: RedisAddress, error: RedisError) -> None:
    """Raises `ConfigError` for what waiting does not cure."""
    said = " ".join(str(one) for one in _chain(error))
    verification = next(
        (one for one in _chain(error) if isinstance(one, ssl.SSLCertVerificationError)), None
    )
    if verification is not None or "CERTIFICATE_VERIFY_FAILED" in said:
        why = verification.verify_message if verification is not None else "it cannot be verified"
        raise ConfigError(
            f"REDIS_URL: the certificate of {address} is not trusted ({why}), and nothing was sent to it. "
            "Name the file of its CA in REDIS_CA_FILE, and the host as the certificate does"
        )
    _refuse_wrong_tls(address, error, said)
    if isinstance(error, AuthenticationError) or re.search("NOAUTH|WRONGPASS|Authentication", said):
        raise ConfigError(
            f"REDIS_URL: {address} refuses the credentials ({error}). Give the user and the password, "
            "percent-encoded: redis://USER:PASSWORD@host:6379/0; :PASSWORD@ alone is the default user"
        )
    if isinstance(error, NoPermissionError):
        # A PING is all that is denied: the server is there, and what matters is asked later.
        return
    if isinstance(error, ResponseError) and not isinstance(error, BusyLoadingError):
        raise ConfigError(f"REDIS_URL: {address} refuses the connection ({error})")


def _refuse_wrong_tls(address: RedisAddress, error: RedisError, said: str) -> None:
    """A server that speaks TLS where the URL does not, or the other way round, and a TLS that fails."""
    if isinstance(error, RedisConnectionError | RedisTimeoutError):
        if address.tls is not None and _speaks_plain(address):
            raise ConfigError(
                f"REDIS_URL: {address} is a server without TLS; write redis:// for it"
            )
        if address.tls is None and _speaks_tls(address):
            raise ConfigError(f"REDIS_URL: {address} is a server with TLS; write rediss:// for it")
    if (fault := re.search(r"\[(?:SSL|[A-Z0-9_]+): ([A-Z0-9_]+)\]", said)) is not None:
        raise ConfigError(
            f"REDIS_URL: no encrypted connection to {address} ({fault[1]}){NO_CERTIFICATE}"
        )


def _speaks_plain(address: RedisAddress) -> bool:
    """Whether a server answers a PING that is not encrypted, which tells nothing."""
    if address.sentinel:
        return False
    try:
        with socket.create_connection(address.nodes[0], PROBE_SECONDS) as plain:
            plain.sendall(b"PING\r\n")
            return plain.recv(1) in (b"+", b"-")
    except OSError:
        return False


def _speaks_tls(address: RedisAddress) -> bool:
    """Whether a server shakes hands for TLS; nothing is sent to it after that, so nothing is verified."""
    if address.path or address.sentinel:
        return False
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    try:
        with (
            socket.create_connection(address.nodes[0], PROBE_SECONDS) as plain,
            context.wrap_socket(plain),
        ):
            return True
    except OSError:
        return False


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _require_one_server(redis: Redis, address: RedisAddress, prefix: str) -> None:
    """Two keys of different slots in one command: nothing but a cluster refuses that."""
    try:
        redis.exists(f"{prefix}:probe:a", f"{prefix}:probe:b")
    except NoPermissionError:
        # INFO will tell.
        return
    except (ResponseError, RedisConnectionError) as error:
        if re.search(r"CROSSSLOT|MOVED|CLUSTERDOWN|hash to the same slot", f"{error!r} {error}"):
            _refuse_cluster(address)
        raise


def _refuse_cluster(address: RedisAddress) -> None:
    raise ConfigError(
        f"REDIS_URL: {address} is in cluster mode, and a job's keys must lie on one server. Use one primary "
        "with cluster mode disabled, or one behind Sentinels (sentinel://)"
    )


def _facts(redis: Redis) -> Mapping[str, Any]:
    info: dict[str, Any] = dict(redis.info())
    if "maxmemory_policy" not in info:
        answer: Any = redis.config_get("maxmemory-policy")
        policy = answer.get("maxmemory-policy", answer.get(b"maxmemory-policy"))
        info["maxmemory_policy"] = policy.decode() if isinstance(policy, bytes) else policy
    return info


def _unheard(redis: Redis, address: RedisAddress, prefix: str) -> list[str]:
    """The patterns to which Celery subscribes, as far as they are denied: jobs run without them."""
    denied = []
    for pattern in ("celery.pidbox", "celeryev/*"):
        channel = f"{prefix}:broker:/{address.db}.{pattern}"
        with cast(Any, redis).pubsub() as subscription:
            try:
                subscription.psubscribe(channel)
                subscription.parse_response(block=False, timeout=PROBE_SECONDS)
            except NoPermissionError:
                denied.append(channel)
    if not denied:
        return []
    return [
        f"REDIS_URL: {address} denies its user the pattern {' and '.join(denied)}, so Flower shows nothing "
        "and no worker answers Celery's control commands; docs/redis.md has the list to allow"
    ]


def _require_fit(address: RedisAddress, info: Mapping[str, Any]) -> None:
    """Judge what a server says of itself. Raises `ConfigError`."""
    if info.get("cluster_enabled") or info.get("redis_mode") == "cluster":
        _refuse_cluster(address)
    version = str(info.get("redis_version", ""))
    release = tuple(int(part) for part in re.findall(r"\d+", version)[:2])
    if release and release < OLDEST:
        raise ConfigError(f"REDIS_URL: {address} is Redis {version}; 6.2 is the oldest that works")
    if info.get("role") == "slave":
        primary = f"{info.get('master_host', '')}:{info.get('master_port', '')}"
        raise ConfigError(
            f"REDIS_URL: {address} is a replica and takes no writes; name its primary ({primary}), or the "
            "Sentinels that know it"
        )
    policy = info.get("maxmemory_policy")
    if policy not in (None, "noeviction"):
        raise ConfigError(
            f"REDIS_URL: its maxmemory-policy is {str(policy)!r}, which throws accepted jobs away when "
            "memory runs out; set it to noeviction (CONFIG SET maxmemory-policy noeviction, and in its "
            "configuration)"
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

    def admit(self) -> int:
        """How many bytes one tenant may take, as `one_tenants`.

        Raises `StorageFull` when used memory is over `FULL` of maxmemory.
        """
        self._look_now_and_then()
        if self._full:
            raise StorageFull(
                "Redis is nearly full, and what is left is kept for running jobs. Try again later."
            )
        return self._one_tenants

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
