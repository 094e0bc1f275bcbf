"""A Sentinel URL finds the primary, and the one that takes over from it."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from redis import Redis
from redis.exceptions import RedisError

from shared.broker import make_celery, queue_name, ring
from shared.domain.errors import StoreUnavailable
from shared.domain.records import NewJob, new_job_id
from shared.redis.connection import connect
from shared.redis.guard import look
from shared.settings import load_settings
from shared.store.jobs import JobStore
from tests.conftest import eventually, redis_binary, require
from tests.ports import free_port


class Quorum:
    """A primary, a replica and one sentinel that may decide alone."""

    def __init__(self, folder: Path) -> None:
        require(redis_binary(), "redis-server")
        self.ports = [free_port(), free_port(), free_port()]
        self.processes: list[subprocess.Popen[bytes]] = []
        primary, replica, sentinel = self.ports
        self._run(folder / "primary", primary, "")
        self._run(folder / "replica", replica, f"replicaof 127.0.0.1 {primary}\n")
        self._run(
            folder / "sentinel",
            sentinel,
            f"sentinel monitor main 127.0.0.1 {primary} 1\n"
            "sentinel down-after-milliseconds main 500\n"
            "sentinel failover-timeout main 2000\n",
            "--sentinel",
        )
        eventually(lambda: self._replicas() == 1, what="the replica is known to the sentinel")
        self.url = f"sentinel://127.0.0.1:{sentinel}/main/0"

    def _run(self, folder: Path, port: int, lines: str, *arguments: str) -> None:
        folder.mkdir()
        config = folder / "redis.conf"
        config.write_text(f'port {port}\nbind 127.0.0.1\ndir {folder}\nsave ""\n{lines}')
        self.processes.append(
            subprocess.Popen(
                [str(redis_binary()), str(config), *arguments], stdout=subprocess.DEVNULL
            )
        )
        client = Redis(port=port)
        eventually(lambda: _pings(client))
        client.close()

    def _replicas(self) -> int:
        client = Redis(port=self.ports[2], decode_responses=True)
        found = client.execute_command("SENTINEL REPLICAS main")
        client.close()
        return len(found) if isinstance(found, list) else 0

    def stop(self) -> None:
        for process in self.processes:
            process.kill()
            process.wait()


def _pings(client: "Redis") -> bool:
    try:
        return bool(client.ping())
    except RedisError:
        return False


@pytest.fixture
def quorum(tmp_path: Path) -> Iterator[Quorum]:
    quorum = Quorum(tmp_path)
    yield quorum
    quorum.stop()


def test_the_store_follows_a_failover(quorum: Quorum) -> None:
    store = JobStore(connect(quorum.url, 1.0), "p", retention=60)
    first = store.create(NewJob(new_job_id(), "m", "t", b"{}"), max_queued=10).id
    replica = Redis(port=quorum.ports[1])
    eventually(lambda: replica.exists(f"p:job:{first}"), what="the job is replicated")
    quorum.processes[0].kill()

    def works() -> bool:
        try:
            store.create(NewJob(new_job_id(), "m", "t", b"{}"), max_queued=10)
        except StoreUnavailable:
            return False
        return True

    eventually(works, what="the new primary takes jobs")
    assert store.get(first).id == first


def test_a_primary_behind_sentinels_is_fit(quorum: Quorum) -> None:
    assert look(quorum.url, 2.0, "p") == []


def test_a_doorbell_reaches_the_primary(quorum: Quorum) -> None:
    settings = load_settings(REDIS_URL=quorum.url, TRUTHGPT_KEY_PREFIX="p")
    model = next(iter(settings.catalog)).name
    assert ring(make_celery(settings), model)
    primary = Redis(port=quorum.ports[0])
    assert primary.llen(f"p:broker:{queue_name(model)}") == 1
