"""The processes under test, with what a chaos test does to them: kill, freeze, replace, look inside."""

import asyncio
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import psutil
from celery import Celery
from msgspec.json import decode
from redis.exceptions import RedisError

from shared import broker
from shared.domain.states import TERMINAL
from shared.redis.connection import connect
from shared.settings import load_settings
from shared.store.events import CREATED, EventLog
from shared.store.jobs import JobStore
from tests.chaos.history import Final, History, Logged
from tests.integration.stack import Stack

LEASE_SECONDS = 3
MODEL = "echo"


class Late(Exception):
    """A condition did not come true in time."""


async def until(condition: Callable[[], object], seconds: float, what: str) -> float:
    """Wait for a condition; the seconds that it took. Raises `Late`."""
    began = time.monotonic()
    while True:
        with suppress(RedisError, OSError):
            if condition():
                return time.monotonic() - began
        if time.monotonic() - began > seconds:
            raise Late(f"not within {seconds:g} s: {what}")
        await asyncio.sleep(0.05)


class Site(Stack):
    """A stack whose processes come and go. Settings are the stack's unless given."""

    def __init__(self, folder: Path, catalogue: str, **env: str) -> None:
        super().__init__(
            folder,
            catalogue,
            {
                "JOB_LEASE_SEC": str(LEASE_SECONDS),
                "WORKER_DRAIN_SEC": "5",
                "PYTHONPATH": str(Path(__file__).resolve().parents[2]),
                "TRUTHGPT_TESTING": "1",
                **env,
            },
        )
        self.redis_url = env.get("REDIS_URL", self.redis.url)
        self.store = JobStore(connect(self.redis_url, 5.0), lease=LEASE_SECONDS)
        self._frozen: list[psutil.Process] = []

    @contextmanager
    def environment(self, **env: str) -> Iterator[None]:
        """Processes started inside get these variables too."""
        before, self._env = self._env, {**self._env, **env}
        try:
            yield
        finally:
            self._env = before

    def one(self, number: int, model: str = MODEL, **env: str) -> "subprocess.Popen[bytes]":
        """Start worker `number` of a model, with variables of its own."""
        with self.environment(**env):
            return self.worker(model, number)

    def pid(self, number: int, model: str = MODEL) -> int:
        return self.processes[f"worker-{model}-{number}"].pid

    def children(self, name: str) -> list[psutil.Process]:
        """The child processes of one that was started: reapers of engine hosts, or gunicorn's workers."""
        with suppress(psutil.NoSuchProcess):
            return psutil.Process(self.processes[name].pid).children()
        return []

    def hosts(self, name: str) -> list[psutil.Process]:
        """The engine hosts of a worker that was started."""
        with suppress(psutil.NoSuchProcess):
            return [host for reaper in self.children(name) for host in reaper.children()]
        return []

    def worker_name(self, number: int, model: str = MODEL) -> str:
        """What worker `number` calls itself in the store."""
        return f"{model}-{os.uname().nodename}-{self.pid(number, model)}"

    def ready_workers(self, model: str = MODEL) -> set[str]:
        """The names of workers whose engine can take work."""
        workers = self.store.status(model).workers
        return {name for name, said in workers.items() if said["state"] in ("ready", "busy")}

    async def serving(self, *numbers: int, model: str = MODEL, seconds: float = 120) -> None:
        """Wait until these workers are ready."""
        names = {self.worker_name(number, model) for number in numbers}
        await until(lambda: names <= self.ready_workers(model), seconds, f"{names} serve")

    def running(self, model: str = MODEL) -> dict[str, tuple[str, float]]:
        """The running jobs: id -> (worker, when it first started)."""
        redis: Any = self.store.redis
        ids = [name.decode() for name in redis.zrange(self.store.keys("leases", model), 0, -1)]
        pipe = redis.pipeline(transaction=False)
        for job in ids:
            pipe.hmget(self.store.keys("job", job), "worker", "started")
        rows = zip(ids, pipe.execute(), strict=True)
        return {job: (who.decode(), int(at) / 1000) for job, (who, at) in rows if who and at}

    def held_by(self, worker: str, model: str = MODEL) -> list[str]:
        """The jobs in a worker's hands."""
        return [job for job, (who, _) in self.running(model).items() if who == worker]

    @cached_property
    def celery(self) -> Celery:
        """A Celery app on this site's broker, to ring with."""
        wanted = ("REDIS_URL", "REDIS_TIMEOUT_SEC", "TRUTHGPT_KEY_PREFIX")
        return broker.make_celery(
            load_settings(**{name: self._env[name] for name in wanted if self._env.get(name)})
        )

    def ring(self, model: str = MODEL) -> bool:
        """Push a doorbell, as the API does."""
        return broker.ring(self.celery, model)

    def freeze(self, name: str) -> None:
        """SIGSTOP a process and its children."""
        root = psutil.Process(self.processes[name].pid)
        self._frozen = [root, *root.children(recursive=True)]
        for member in self._frozen:
            member.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """SIGCONT what was frozen."""
        for member in self._frozen:
            with suppress(psutil.NoSuchProcess):
                member.send_signal(signal.SIGCONT)
        self._frozen = []

    def stop(self) -> None:
        self.thaw()
        self.store.redis.close()
        super().stop()

    def record_logs(self, history: History) -> None:
        """Put the log of every job that has ended into a history, straight from its stream, once."""
        ended = {entry.job for entry in history.of(Final) if entry.status in TERMINAL}
        known = {entry.job for entry in history.of(Logged)}
        log = EventLog(self.store.redis, self.store.keys)
        for job in sorted(ended - known):
            entries = cast(list[Any], self.store.redis.xrange(self.store.keys("log", job)))
            raw = [(one.decode(), entry[b"e"].decode(), entry[b"d"]) for one, entry in entries]
            # One that ran without a log has none: its record tells.
            told = raw or [(str(one.id), one.kind, one.data) for one in log.read(job)[1:]]
            birth = (str(CREATED.id), CREATED.kind, "")
            history.add(Logged(job, [birth, *(_event(*one) for one in told)]))

    def leftovers(self) -> list[str]:
        """What is still in the store though every job has ended."""
        found = []
        redis: Any = self.store.redis
        for model in self.store.models():
            status = self.store.status(model)
            if status.waiting or status.running:
                found.append(f"{model}: {status.waiting} waiting, {status.running} running")
            for kind in ("due", "deadlines"):
                if number := redis.zcard(self.store.keys(kind, model)):
                    found.append(f"{model}: {number} in {kind}")
            busy = {name: said["active"] for name, said in status.workers.items() if said["active"]}
            if busy:
                found.append(f"{model}: workers still at work: {busy}")
        prefix = f"{self.store.keys.prefix}:"
        for name in redis.scan_iter(f"{prefix}*", count=1000):
            if not name.startswith(f"{prefix}broker:".encode()) and redis.ttl(name) == -1:
                found.append(f"{name.decode()} has no TTL")
        return found


def _event(identity: str, kind: str, data: bytes) -> tuple[str, str, str]:
    key = {"token": "text", "done": "status"}.get(kind)
    return identity, kind, str(decode(data).get(key, "")) if key else ""
