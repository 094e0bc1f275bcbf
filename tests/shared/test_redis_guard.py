"""A Redis that may evict jobs is refused at start."""

import pytest
from redis import Redis

from shared.connection import connect
from shared.errors import ConfigError
from shared.redis_guard import require_noeviction
from tests.conftest import RedisServer, free_port


def test_an_evicting_redis_is_refused_by_name(own_redis: RedisServer) -> None:
    redis = Redis.from_url(own_redis.url)
    require_noeviction(redis)
    redis.config_set("maxmemory-policy", "allkeys-lru")
    with pytest.raises(ConfigError, match=r"allkeys-lru.*noeviction"):
        require_noeviction(redis)


def test_a_redis_that_cannot_be_asked_is_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    require_noeviction(connect(f"redis://127.0.0.1:{free_port()}/0", 0.2))
    assert "noeviction" in caplog.text
