"""Connects to a server's Redis, for commands that do what no HTTP call may."""

from redis import Redis

from shared.domain.errors import ConfigError
from shared.embedded_redis import running_url
from shared.redis.connection import connect
from shared.settings import Settings


def server_redis(settings: Settings) -> Redis:
    """The Redis of `REDIS_URL`, else of the server in this state directory. Raises `ConfigError`."""
    own = None if settings.redis_url else running_url(settings.state_dir)
    if own is None and not settings.redis_url:
        raise ConfigError(
            "REDIS_URL: not set, and no server has run in TRUTHGPT_STATE_DIR "
            f"{settings.state_dir}; this command needs the server's Redis"
        )
    return connect(own or settings.require_redis(), settings.redis_timeout)
