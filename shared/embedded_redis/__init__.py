"""A real Redis server of our own, for machines where nobody runs one."""

from shared.embedded_redis.addresses import free_port, wait_until
from shared.embedded_redis.binaries import find_binary
from shared.embedded_redis.server import EmbeddedRedis, running_url

__all__ = ["EmbeddedRedis", "find_binary", "free_port", "running_url", "wait_until"]
