"""A Redis primary that dies under Sentinel: scenario 17. What is lost is measured, not judged."""

import asyncio
import subprocess
import time
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from redis import Redis
from redis.exceptions import RedisError

from tests.chaos.arena import Arena
from tests.chaos.history import Fault
from tests.chaos.outages import everybody
from tests.chaos.site import until
from tests.conftest import redis_binary
from tests.ports import free_port

NAME = "jobs"
SENTINELS = 3
CONFIG = """port {port}
bind 127.0.0.1
dir {folder}
sentinel monitor {name} 127.0.0.1 {primary} 2
sentinel down-after-milliseconds {name} 1000
sentinel failover-timeout {name} 5000
sentinel parallel-syncs {name} 1
"""


class Nodes:
    """A primary, a replica, and three sentinels that watch them."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._processes: dict[int, subprocess.Popen[bytes]] = {}
        self.servers = [free_port(), free_port()]
        self.sentinels = [free_port() for _ in range(SENTINELS)]
        self.serve(self.servers[0])
        self.serve(self.servers[1], self.servers[0])
        for port in self.sentinels:
            config = self._place(port) / "sentinel.conf"
            config.write_text(
                CONFIG.format(port=port, folder=config.parent, name=NAME, primary=self.servers[0])
            )
            self._start(port, str(config), "--sentinel")

    @property
    def url(self) -> str:
        hosts = ",".join(f"127.0.0.1:{port}" for port in self.sentinels)
        return f"sentinel://{hosts}/{NAME}/0"

    def serve(self, port: int, primary: int | None = None) -> None:
        """Start a server, as a replica where a primary is named."""
        # fmt: off
        replica = ("--replicaof", "127.0.0.1", str(primary)) if primary else ()
        self._start(
            port, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "yes",
            "--dir", str(self._place(port)), "--repl-diskless-sync-delay", "0", *replica,
        )
        # fmt: on

    def primary(self) -> int:
        """The port of the primary, as the first sentinel knows it."""
        return int(_ask(self.sentinels[0], "SENTINEL", "get-master-addr-by-name", NAME)[1])

    def replaced(self, primary: int) -> bool:
        return self.primary() != primary

    def in_step(self) -> bool:
        """Whether every sentinel knows the same primary and that has a replica on line."""
        known = {
            int(_ask(port, "SENTINEL", "get-master-addr-by-name", NAME)[1])
            for port in self.sentinels
        }
        watch = _ask(self.sentinels[0], "SENTINEL", "replicas", NAME)
        return len(known) == 1 and bool(watch) and _replicas(known.pop()) == 1

    def kill(self, port: int) -> None:
        process = self._processes.pop(port)
        process.kill()
        process.wait()

    def stop(self) -> None:
        for port in list(self._processes):
            self.kill(port)

    def _place(self, port: int) -> Path:
        folder = self._folder / str(port)
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def _start(self, port: int, *arguments: str) -> None:
        with (self._place(port) / "log").open("ab") as log:
            self._processes[port] = subprocess.Popen(
                [str(redis_binary()), *arguments], stdin=subprocess.DEVNULL, stdout=log
            )


async def sentinel_failover(arena: Arena) -> None:
    """17: kill -9 of the primary, `faults` times; the old one comes back as a replica."""
    arena.may_fail()
    nodes = Nodes(arena.folder / "nodes")
    arena.afterwards(nodes.stop)
    await until(nodes.in_step, 60, "the sentinels know the primary and its replica")
    await arena.open(REDIS_URL=nodes.url)
    site = arena.site
    assert site is not None
    async with arena.load(everybody(arena)):
        for _ in range(arena.size.faults):
            await asyncio.sleep(arena.draw.uniform(1, 3))
            old = nodes.primary()
            arena.faults += 1
            down = time.time()
            nodes.kill(old)
            await until(partial(nodes.replaced, old), 60, "another primary is chosen")

            def consuming(since: float = down + 1.5) -> bool:
                return any(at > since for _, at in site.running().values())

            await until(consuming, 90, "workers consume again")
            arena.history.add(Fault(down, "failover", recovered=time.time() - down))
            nodes.serve(old, nodes.primary())
            await until(nodes.in_step, 60, "the old primary is a replica")
    await arena.close()
    arena.note(f"of {arena.jobs} jobs {len(arena.findings)} findings, measured and not judged")
    arena.excuse()


def _ask(port: int, *command: str) -> Any:
    redis: Any = Redis(port=port, socket_timeout=2, decode_responses=True)
    try:
        return redis.execute_command(*command)
    finally:
        redis.close()


def _replicas(port: int) -> int:
    redis: Any = Redis(port=port, socket_timeout=2)
    with suppress(RedisError):
        info = redis.info("replication")
        return sum(info.get(f"slave{n}", {}).get("state") == "online" for n in range(2))
    return 0
