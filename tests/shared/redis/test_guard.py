"""A Redis that cannot serve is refused at start; one that is full takes what gives room back."""

import logging
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from redis import Redis

from shared.domain.errors import ConfigError, StorageFull
from shared.domain.records import Append, Finish, NewJob, Requeue, new_job_id
from shared.domain.states import JobState
from shared.redis.connection import connect
from shared.redis.guard import ANNOUNCED, LOOK_SECONDS, MemoryGuard, look, require_fit
from shared.store.jobs import JobStore
from tests.conftest import RedisServer, eventually, redis_binary, require
from tests.ports import free_port
from tests.terminator import encrypted, make_certificates


@contextmanager
def server(folder: Path, *lines: str) -> Iterator[str]:
    """A server with these lines of configuration on a port of loopback; its URL without credentials."""
    require(redis_binary(), "redis-server")
    process, port = _started(folder, *lines)
    while process.poll() is not None:
        # Somebody else took the port meanwhile, or that of the cluster's bus above it.
        process, port = _started(folder, *lines)
    try:
        yield f"redis://127.0.0.1:{port}/0"
    finally:
        process.kill()
        process.wait()


def _started(folder: Path, *lines: str) -> tuple["subprocess.Popen[bytes]", int]:
    """A server's process and its port, once it listens there or has ended."""
    port = free_port()
    config = folder / "server.conf"
    config.write_text(f'port {port}\nbind 127.0.0.1\ndir {folder}\nsave ""\n' + "\n".join(lines))
    process = subprocess.Popen([str(redis_binary()), str(config)], stdout=subprocess.DEVNULL)
    eventually(lambda: process.poll() is not None or _listens(port), what="a server listens")
    return process, port


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def refused(url: str) -> str:
    with pytest.raises(ConfigError, match=r"^REDIS_URL: ") as error:
        look(url, 2.0, "p")
    return error.value.detail


def test_a_plain_primary_is_fit(own_redis: RedisServer) -> None:
    assert look(own_redis.url, 2.0, "p") == []


@pytest.mark.parametrize(
    "policy", ["allkeys-lru", "allkeys-random", "volatile-lru", "volatile-ttl"]
)
def test_an_evicting_redis_is_refused_by_name(own_redis: RedisServer, policy: str) -> None:
    Redis.from_url(own_redis.url).config_set("maxmemory-policy", policy)
    said = refused(own_redis.url)
    assert policy in said and "noeviction" in said


def test_cluster_mode_is_refused(tmp_path: Path) -> None:
    with server(tmp_path, "cluster-enabled yes") as url:
        assert "cluster mode" in refused(url)
        with Redis.from_url(url) as redis:
            redis.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
            eventually(lambda: b"cluster_state:ok" in redis.execute_command("CLUSTER", "INFO"))
            redis.acl_setuser(
                "app",
                enabled=True,
                passwords="+pw",
                keys=["p:*"],
                channels=["*"],
                commands=["+@all", "-info"],
            )
        assert "cluster mode" in refused(url.replace("//", "//app:pw@"))


def test_a_replica_is_refused_with_the_name_of_its_primary(tmp_path: Path) -> None:
    with server(tmp_path, "replicaof 127.0.0.1 1") as url:
        said = refused(url)
        assert "replica" in said and "127.0.0.1:1" in said


def test_credentials_that_are_wrong_or_missing_are_refused(tmp_path: Path) -> None:
    with server(tmp_path, "requirepass right") as url:
        for login in ("", ":wrong@", "nobody:right@"):
            assert "credentials" in refused(url.replace("//", f"//{login}"))
        assert look(url.replace("//", "//:right@"), 2.0, "p") == []


def test_a_database_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with server(tmp_path) as url:
        assert "out of range" in refused(f"{url}9999".replace("/09999", "/9999"))


def test_one_that_does_not_answer_yet_is_waited_for(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        require_fit(f"redis://127.0.0.1:{free_port()}/0", 0.2, "p")
    assert "does not answer yet" in caplog.text


def test_one_whose_facts_are_denied_is_a_warning_that_names_the_command(tmp_path: Path) -> None:
    with server(tmp_path) as url:
        with Redis.from_url(url) as redis:
            redis.acl_setuser(
                "app",
                enabled=True,
                passwords="+pw",
                keys=["p:*"],
                channels=["*"],
                commands=["+@all", "-info"],
            )
        (said,) = look(url.replace("//", "//app:pw@"), 2.0, "p")
    assert "the command info" in said and "noeviction" in said


def test_a_policy_is_found_out_without_the_right_to_ask_for_the_configuration(
    tmp_path: Path,
) -> None:
    with server(tmp_path, "maxmemory-policy allkeys-lfu") as url:
        with Redis.from_url(url) as redis:
            redis.acl_setuser(
                "app",
                enabled=True,
                passwords="+pw",
                keys=["p:*"],
                channels=["*"],
                commands=["+@all", "-@dangerous", "+info"],
            )
        assert "allkeys-lfu" in refused(url.replace("//", "//app:pw@"))


def test_a_pattern_of_celerys_that_is_denied_is_a_warning(tmp_path: Path) -> None:
    with server(tmp_path) as url:
        with Redis.from_url(url) as redis:
            redis.acl_setuser(
                "app",
                enabled=True,
                passwords="+pw",
                keys=["p:*"],
                channels=["p:*"],
                commands=["+@all"],
            )
        (said,) = look(url.replace("//", "//app:pw@"), 2.0, "p")
    assert "p:broker:/0.celery.pidbox and p:broker:/0.celeryev/*" in said


def test_what_a_launcher_has_said_is_not_said_again(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(ANNOUNCED, "1")
    with caplog.at_level(logging.INFO):
        require_fit(f"redis://127.0.0.1:{free_port()}/0", 0.2, "p")
    assert caplog.text == ""


# -- TLS


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_certificates(tmp_path_factory.mktemp("certificates"))


def test_an_untrusted_certificate_is_refused_and_hears_nothing(
    redis_server: RedisServer, certificates: Path
) -> None:
    with encrypted(redis_server, certificates) as impostor:
        said = refused(f"rediss://:secret@localhost:{impostor.port}/0")
        assert "REDIS_CA_FILE" in said and "self-signed" in said and "secret" not in said
        assert impostor.heard == b""


def test_a_certificate_of_another_host_is_refused(
    redis_server: RedisServer, certificates: Path
) -> None:
    with encrypted(redis_server, certificates, "other-host") as impostor:
        url = f"rediss://localhost:{impostor.port}/0?ssl_ca_certs={certificates}/other-host.pem"
        assert "localhost" in refused(url)
        assert look(f"{url}&ssl_check_hostname=false", 2.0, "p") == []


def test_a_trusted_certificate_is_fit(redis_server: RedisServer, certificates: Path) -> None:
    with encrypted(redis_server, certificates) as trusted:
        url = f"rediss://localhost:{trusted.port}/0?ssl_ca_certs={certificates}/known.pem"
        assert look(url, 2.0, "p") == []


def test_to_check_nothing_is_the_users_choice_with_one_warning(
    redis_server: RedisServer, certificates: Path
) -> None:
    with encrypted(redis_server, certificates) as unknown:
        (said,) = look(f"rediss://localhost:{unknown.port}/0?ssl_cert_reqs=none", 2.0, "p")
    assert "ssl_cert_reqs=none" in said and "REDIS_CA_FILE" in said


def test_a_client_without_the_certificate_that_is_wanted_is_told_so(
    redis_server: RedisServer, certificates: Path
) -> None:
    with encrypted(redis_server, certificates, clients=True) as strict:
        url = f"rediss://localhost:{strict.port}/0?ssl_ca_certs={certificates}/known.pem"
        try:
            # How far the handshake came when the server hung up is chance.
            (said,) = look(url, 2.0, "p")
        except ConfigError as error:
            said = error.detail
        assert "ssl_certfile=" in said
        own = f"&ssl_certfile={certificates}/known.pem&ssl_keyfile={certificates}/known.key"
        assert look(url + own, 2.0, "p") == []


def test_a_server_without_tls_is_named_as_such(redis_server: RedisServer) -> None:
    assert "write redis://" in refused(f"rediss://localhost:{redis_server.port}/0")


def test_a_server_with_tls_is_named_as_such(redis_server: RedisServer, certificates: Path) -> None:
    with encrypted(redis_server, certificates) as trusted:
        assert "write rediss://" in refused(f"redis://localhost:{trusted.port}/0")


# -- memory


def test_a_full_redis_takes_no_jobs_and_every_end(own_redis: RedisServer) -> None:
    """A worker's write that is refused would be repeated until there is room, and its job's end with it."""
    redis = connect(own_redis.url, 5.0)
    store = JobStore(redis, "full", retention=60)
    for _ in range(6):
        store.create(NewJob(new_job_id(), "m", "t", b"x"), max_queued=10)
    first, second, third, fourth = store.claim("m", 4, "w").claims
    redis.zadd(store.keys("leases", "m"), {fourth.id: 1})
    redis.config_set("maxmemory", 1)

    with pytest.raises(StorageFull) as refused:
        JobStore(redis, "full").create(NewJob(new_job_id(), "m", "t", b"x"), max_queued=10)
    assert (refused.value.code, refused.value.problem.status) == ("storage_full", 503)
    with pytest.raises(StorageFull):
        store.claim("m", 2, "w", drain="d")

    said = Append(first.id, 1, 1, "token", b'{"text":"a","index":0}')
    done = Finish(first.id, 1, JobState.SUCCEEDED, b'"' + b"y" * 10_000 + b'"')
    assert store.write([said, done, Requeue(second.id, 1, "worker_stopping")]) == [1, 1, 1]
    assert store.beat("m", "w", b"{}", [(third.id, 1)]).results == [1]
    store.park([(third.id, 1)], parked=True)
    assert store.rescue("m").requeued == 1
    assert store.cancel(second.id) is JobState.CANCELED
    store.delete(first.id, "t")
    redis.close()


def test_new_jobs_are_refused_before_it_is_full(own_redis: RedisServer) -> None:
    redis = connect(own_redis.url, 5.0)
    guard = MemoryGuard(redis)
    guard.admit()
    redis.config_set("maxmemory", int(1.05 * redis.info("memory")["used_memory"]))  # type: ignore[index]
    guard._looked -= LOOK_SECONDS
    with pytest.raises(StorageFull):
        guard.admit()
    redis.close()
