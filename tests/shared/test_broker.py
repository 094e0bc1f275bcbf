"""Celery's broker: it gets in where the job store does, and nowhere else."""

from pathlib import Path

import pytest
from celery import Celery
from redis import Redis

from shared.broker import make_celery, queue_name, ring
from shared.embedded_redis import EmbeddedRedis
from shared.settings import load_settings
from tests.conftest import RedisServer
from tests.terminator import encrypted, make_certificates


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_certificates(tmp_path_factory.mktemp("certificates"))


def celery(url: str, prefix: str, **settings: object) -> Celery:
    return make_celery(load_settings(REDIS_URL=url, TRUTHGPT_KEY_PREFIX=prefix, **settings))


def model(app: Celery) -> str:
    name: str = app.conf.task_queues[0].name
    return name.removeprefix("infer.")


@pytest.mark.parametrize(
    "certificate", ["known", "other-host"], ids=["that nobody signed", "of another host"]
)
def test_an_impostor_does_not_hear_the_password(
    redis_server: RedisServer, certificates: Path, prefix: str, certificate: str
) -> None:
    trusted = {"REDIS_CA_FILE": certificates / "other-host.pem"}
    with encrypted(redis_server, certificates, certificate) as impostor:
        app = celery(f"rediss://:s3cret@localhost:{impostor.port}/0", prefix, **trusted)
        assert not ring(app, model(app))
        with (
            app.connection_for_read() as connection,
            pytest.raises(connection.connection_errors, match="CERTIFICATE_VERIFY_FAILED"),
        ):
            connection.connect()
        assert impostor.heard == b""


def test_a_trusted_server_gets_doorbells_by_tls(
    redis_server: RedisServer, certificates: Path, prefix: str
) -> None:
    with encrypted(redis_server, certificates) as trusted:
        ca = {"REDIS_CA_FILE": certificates / "known.pem"}
        app = celery(f"rediss://localhost:{trusted.port}/0", prefix, **ca)
        assert ring(app, model(app))
        with Redis.from_url(redis_server.url) as redis:
            queue = f"{prefix}:broker:{queue_name(model(app))}"
            assert redis.llen(queue) == 1
            redis.delete(queue)


def test_to_check_nothing_is_obeyed_in_the_broker_too(
    redis_server: RedisServer, certificates: Path, prefix: str
) -> None:
    with encrypted(redis_server, certificates) as unknown:
        app = celery(f"rediss://localhost:{unknown.port}/0?ssl_cert_reqs=none", prefix)
        assert ring(app, model(app))
    with Redis.from_url(redis_server.url) as redis:
        redis.delete(f"{prefix}:broker:{queue_name(model(app))}")


def test_a_unix_socket_with_a_password_and_a_database_takes_doorbells(
    tmp_path: Path, prefix: str
) -> None:
    redis = EmbeddedRedis(tmp_path / "a b%20ü")
    redis.start()
    try:
        app = celery(redis.url.replace("db=0", "db=2"), prefix)
        assert ring(app, model(app))
        with Redis.from_url(redis.url.replace("db=0", "db=2")) as client:
            assert client.llen(f"{prefix}:broker:{queue_name(model(app))}") == 1
    finally:
        redis.stop()
