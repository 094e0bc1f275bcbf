import os
import signal
import socket
import stat
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import AuthenticationError
from redis.retry import Retry

from shared.domain.records import Finish, NewJob, new_job_id
from shared.domain.states import JobState
from shared.embedded_redis import (
    EmbeddedRedis,
    binaries,
    free_port,
    running_url,
    wait_until,
)
from shared.embedded_redis import server as embedded_redis
from shared.embedded_redis.binaries import EmbeddedRedisFailed, Server, choose, identified
from shared.machine_memory import stores_part
from shared.redis.connection import connect as connect_store
from shared.store.jobs import JobStore
from tests.conftest import PATIENCE, require

DATA = Path(__file__).parent / "data"


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
            "port": "0",
            "protected-mode": "yes",
        }
        assert {name: client.config_get(name)[name] for name in wanted} == wanted


def test_the_record_of_a_job_stays_packed_with_its_output(redis: EmbeddedRedis) -> None:
    with connect_store(redis.url, 5.0) as client:
        store, job = JobStore(client), NewJob(new_job_id(), "echo", "tenant", b"{}")
        store.create(job, max_queued=1)
        claim = store.claim("echo", 1, "worker").claims[0]
        output = b'{"text":"%s"}' % (b"x" * 500)
        store.write([Finish(claim.id, claim.attempt, JobState.SUCCEEDED, output)])
        assert client.object("encoding", store.keys("job", job.id)) == b"listpack"


def test_its_allocator_keeps_freed_pieces_at_hand(redis: EmbeddedRedis) -> None:
    tunables = psutil.Process(redis.pid).environ()["GLIBC_TUNABLES"]
    assert tunables == os.environ.get("GLIBC_TUNABLES", "glibc.malloc.tcache_count=2000")


def test_its_scripts_seldom_stop_to_collect_garbage(redis: EmbeddedRedis) -> None:
    with Redis.from_url(redis.url) as client:
        assert client.eval("return collectgarbage('setpause', 1000)", 0) == 1000


def test_it_listens_on_a_socket_that_others_cannot_reach(
    redis: EmbeddedRedis, tmp_path: Path
) -> None:
    path = tmp_path / "redis" / "redis.sock"
    assert redis.url.startswith("unix://:") and str(path) in redis.url
    assert stat.S_IMODE(path.stat().st_mode) == 0o700
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_nobody_gets_in_without_the_password(redis: EmbeddedRedis, tmp_path: Path) -> None:
    path = str(tmp_path / "redis" / "redis.sock")
    with (
        Redis(unix_socket_path=path, retry=Retry(NoBackoff(), 0)) as stranger,
        pytest.raises(AuthenticationError),
    ):
        stranger.ping()

    config = tmp_path / "redis" / "redis.conf"
    assert stat.S_IMODE(config.stat().st_mode) == 0o600
    password = redis.url.removeprefix("unix://:").split("@")[0]
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
        assert wait_until(lambda: client.info("persistence")["aof_buffer_length"] == 0, PATIENCE)
    url, pid = redis.url, redis.pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    assert wait_until(lambda: not redis.alive, PATIENCE)

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
        assert wait_until(lambda: not redis.alive, PATIENCE)
        assert successor.pid != stray
        with connect(successor) as client:
            assert client.get("job") == "kept"
    finally:
        successor.stop()


@pytest.mark.parametrize(
    "name", ['sp ace "quoted" \\ ünï %41 ?#@:[*]', "Zoë 状态", "tab\tand\nnewline"], ids=ascii
)
def test_a_state_directory_may_have_any_name(tmp_path: Path, name: str) -> None:
    redis = EmbeddedRedis(tmp_path / name)
    redis.start()
    try:
        assert redis.url == running_url(tmp_path / name)
        with connect_store(redis.url, 1.0) as client:
            assert client.ping()
    finally:
        redis.stop()


def test_a_path_too_long_for_a_socket_gets_a_port_of_loopback_and_it_is_said(
    tmp_path: Path,
) -> None:
    folder = tmp_path / ("x" * 120)
    redis = EmbeddedRedis(folder)
    redis.start()
    try:
        assert "@127.0.0.1:" in redis.url
        assert redis.url == running_url(folder)
        assert "too long" in redis.notes[-1]
        with connect(redis) as client:
            assert client.config_get("bind")["bind"] == "127.0.0.1"
    finally:
        redis.stop()


def test_a_taken_port_is_no_obstacle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        ports = [taken.getsockname()[1], free_port()]
        monkeypatch.setattr(embedded_redis, "free_port", lambda: ports.pop(0))
        redis = EmbeddedRedis(tmp_path, loopback=True)
        redis.start()
        redis.stop()
    assert ports == []


# -- an append-only file that is not whole


@pytest.mark.parametrize(
    "end",
    [
        b"\0" * 512,
        b"\0" * (2 * 1024 * 1024),
        b"*3\r\n$3\r\nSET\r\n$4\r\nlast\r\n$900\r\nhalf",
        b"*3\r\n$3\r\nSET\r\n$4\r\nlast\r\n$90" + b"\0" * 4096,
        b"garbage of a block that was somebody else's",
    ],
    ids=["zeros", "many zeros", "half a command", "half a command and zeros", "garbage"],
)
def test_a_torn_end_is_cut_with_a_copy_beside_it_and_said(tmp_path: Path, end: bytes) -> None:
    redis = EmbeddedRedis(tmp_path)
    redis.start()
    with connect(redis) as client:
        client.set("job", "kept")
    redis.stop()
    (file,) = (tmp_path / "redis").rglob("*.incr.aof")
    whole = file.read_bytes()
    file.write_bytes(whole + end)

    second = EmbeddedRedis(tmp_path)
    second.start()
    try:
        with connect(second) as client:
            assert client.get("job") == "kept"
        (copy,) = file.parent.glob("*.torn-*")
        assert copy.read_bytes() == whole + end
        assert str(copy) in second.notes[-1]
        assert f"its last {len(end)} of {len(whole + end)} bytes are cut" in second.notes[-1]
    finally:
        second.stop()


def test_a_server_that_died_in_the_middle_of_a_write_is_restarted(redis: EmbeddedRedis) -> None:
    with connect(redis) as client:
        client.set("job", "kept")
        assert wait_until(lambda: client.info("persistence")["aof_buffer_length"] == 0, PATIENCE)
    assert redis.pid is not None
    os.kill(redis.pid, signal.SIGKILL)
    assert wait_until(lambda: not redis.alive, PATIENCE)
    (file,) = redis.folder.rglob("*.incr.aof")
    with file.open("ab") as written:
        written.write(b"*2\r\n$3\r\nDEL\r\n$3\r\nj")

    redis.restart()

    assert "torn" in redis.notes[-1]
    with connect(redis) as client:
        assert client.get("job") == "kept"


def test_a_ruined_file_is_reported_with_redis_own_words(tmp_path: Path) -> None:
    redis = EmbeddedRedis(tmp_path)
    redis.start()
    redis.stop()
    for file in (tmp_path / "redis").rglob("appendonly.aof*"):
        file.write_bytes(b"*1\r\n$garbage\r\nand more of it\r\n" * 9)

    with pytest.raises(EmbeddedRedisFailed, match=r"ended at once.*redis\.log"):
        EmbeddedRedis(tmp_path).start()


# -- data of one server, read by another


def only(monkeypatch: pytest.MonkeyPatch, server: Server | None) -> None:
    """Let a machine have this server and no other."""
    require(server, "this server")
    monkeypatch.setattr(binaries, "_servers", lambda: [server])


@pytest.fixture
def debian() -> Server | None:
    return identified(Path("/usr/bin/redis-server"))


@pytest.mark.parametrize("file", sorted(DATA.glob("redis-6.2-*.aof")), ids=lambda file: file.stem)
def test_what_redis_6_2_wrote_is_read(tmp_path: Path, file: Path) -> None:
    folder = tmp_path / "redis"
    folder.mkdir(mode=0o700)
    (folder / "appendonly.aof").write_bytes(file.read_bytes())
    redis = EmbeddedRedis(tmp_path)
    redis.start()
    try:
        with connect(redis) as client:
            assert client.get("text") == "kept"
            assert client.hgetall("hash") == {"a": "1", "b": "2"}
            assert client.zrange("zset", 0, -1, withscores=True) == [("x", 1.5), ("y", 2.0)]
            assert [name for name, _ in client.xrange("stream")] == ["1-2"]
            assert client.lrange("list", 0, -1) == ["one", "two"]
            assert client.smembers("set") == {"m"}
            assert client.get("last") == "kept too"
            assert client.dbsize() == 7
    finally:
        redis.stop()


def test_jobs_that_another_server_kept_are_all_read_and_the_way_back_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, debian: Server | None
) -> None:
    default = choose().server
    with monkeypatch.context() as machine:
        only(machine, debian)
        older = EmbeddedRedis(tmp_path)
        older.start()
        store = JobStore(connect_store(older.url, 2.0), "p")
        ids = [
            store.create(NewJob(new_job_id(), "m", "t", b"{}"), max_queued=99).id for _ in range(21)
        ]
        ended = [
            Finish(one.id, one.attempt, JobState.SUCCEEDED, output=b'{"text":"x"}')
            for one in store.claim("m", 7, "w").claims
        ]
        assert store.write(ended) == [1] * 7
        store.redis.close()
        older.stop()

    newer = EmbeddedRedis(tmp_path)
    newer.start()
    try:
        assert newer.server == default
        store = JobStore(connect_store(newer.url, 2.0), "p")
        found = {job_id: store.get(job_id).state for job_id in ids}
        assert sorted(found.values()) == ["queued"] * 14 + ["succeeded"] * 7
        store.redis.close()
    finally:
        newer.stop()

    files = sorted((tmp_path / "redis" / "appendonlydir").iterdir())
    with monkeypatch.context() as machine:
        only(machine, debian)
        with pytest.raises(EmbeddedRedisFailed) as refused:
            EmbeddedRedis(tmp_path).start()
    assert str(default) in refused.value.detail
    assert sorted((tmp_path / "redis" / "appendonlydir").iterdir()) == files


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
