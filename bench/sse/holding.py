"""One API process with its Redis, a reader process with all the streams, and a feeder: what it costs."""

import secrets
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import msgspec
import psutil

from bench.programs import REPOSITORY, Program, programs
from bench.reporting.figures import percentile
from bench.sse.feeding import Feeder
from bench.sse.reader import Errand, Heard, Opened
from bench.sse.result import MODEL, Held, Plan
from bench.subjects.ours import NO_LIMIT
from bench.turn import last_words
from shared.embedded_redis import free_port
from shared.redis.connection import connect
from shared.store.jobs import JobStore

PATIENCE = 180.0
WARM_UP = 8
"""Streams that are opened and read to their ends before anything is measured."""
KB, MB = 1e3, 1e6


class Failed(Exception):
    """The streams could not be measured."""


class Api:
    """A running API with one serving process."""

    def __init__(
        self, url: str, token: str, program: Program, store: JobStore, folder: Path
    ) -> None:
        self.url = url
        self.headers = {"Authorization": f"Bearer {token}"}
        self.store = store
        self.folder = folder
        self._program = program

    def memory(self) -> int:
        """Bytes of the serving process that it shares with no other (USS)."""
        return int(self._serving().memory_full_info().uss)

    def processor(self) -> float:
        """Seconds that the serving process has computed."""
        times = self._serving().cpu_times()
        return times.user + times.system

    def _serving(self) -> psutil.Process:
        [process] = self._program.children
        return process


@contextmanager
def api(folder: Path, entry: str = "{engine: echo}") -> Iterator[Api]:
    """Redis and an API of one process, with default settings but for the rate limit. `entry` is its model's
    in the catalogue.
    """
    folder.mkdir(parents=True)
    catalogue = folder / "catalog.yaml"
    catalogue.write_text(f"models: {{{MODEL}: {entry}}}\n", "utf-8")
    port, token = free_port(), secrets.token_urlsafe(32)
    with programs(folder) as running:
        redis = running.redis()
        env = {
            "REDIS_URL": redis.url,
            "TRUTHGPT_API_TOKEN": token,
            "TRUTHGPT_CONFIG": str(catalogue),
            "TRUTHGPT_STATE_DIR": str(folder),
            "RATE_LIMIT_RPM": NO_LIMIT,
            "WEB_CONCURRENCY": "1",
        }
        program = running.start("api", env, "-m", "cli", "api", "--port", str(port))
        url = f"http://127.0.0.1:{port}"
        _await(url)
        yield Api(url, token, program, JobStore(connect(redis.url, 10.0)), folder)


def _await(url: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            if httpx.get(f"{url}/health", timeout=5).status_code == 200:
                return
        except httpx.TransportError:
            pass
        if time.monotonic() > deadline:
            raise Failed("the API does not answer")
        time.sleep(0.1)


def measure(plan: Plan, jobs: int, folder: Path) -> Held:
    """`plan.streams` readers, spread evenly over `jobs` jobs. Raises `Failed`."""
    with api(folder) as running:
        # Twice: what a first stream allocates for good is not what a stream costs.
        for _ in range(2):
            _round(running, Plan(WARM_UP, 1, 0), WARM_UP)
        return _round(running, plan, jobs)


def _round(running: Api, plan: Plan, jobs: int) -> Held:
    feeder = Feeder(running.store, jobs)
    readers = [feeder.claims[n % jobs].id for n in range(plan.streams)]
    paths = [f"/v1/jobs/{job_id}/events" for job_id in readers]
    empty, began = running.memory(), time.monotonic()
    with _reader(Errand(running.url, running.headers, paths, PATIENCE), running.folder) as reader:
        first = next(reader)
        assert isinstance(first, Opened)
        opening = time.monotonic() - began
        opened, before = running.memory(), running.processor()
        late = feeder.feed(plan.beats)
        busy, until, fed = running.processor() - before, time.time(), running.memory()
        feeder.finish()
        heard = next(reader)
    assert isinstance(heard, Heard)
    pairs = zip(heard.texts, heard.arrivals, strict=True)
    delays = sorted(
        arrived * 1e3 - int(stamp) / 1e3
        for texts, arrivals in pairs
        for stamp, arrived in list(zip(texts, arrivals, strict=True))[plan.skipped :]
    )
    wrong = sum(
        texts != feeder.said[job_id] or not ended
        for job_id, texts, ended in zip(readers, heard.texts, heard.ended, strict=True)
    )
    p50, p95, p99 = (percentile(delays, share) for share in (0.5, 0.95, 0.99))
    return Held(
        streams=plan.streams,
        jobs=jobs,
        opening_s=opening,
        empty_mb=empty / MB,
        open_kb=(opened - empty) / plan.streams / KB,
        fed_kb=(fed - empty) / plan.streams / KB,
        # A process that is behind its time has yet to pay for the rest.
        event_us=busy / sum(at <= until for times in heard.arrivals for at in times) * 1e6,
        delays_ms=(p50, p95, p99, delays[-1]),
        late_s=late,
        refused=first.refused,
        wrong=wrong,
    )


@contextmanager
def _reader(errand: Errand, folder: Path) -> Iterator[Iterator[Opened | Heard]]:
    process = subprocess.Popen(
        [sys.executable, "-m", "bench.sse.reader"],
        cwd=REPOSITORY,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        # Ctrl-C is this process' business; it ends the reader.
        start_new_session=True,
    )
    assert process.stdin is not None and process.stdout is not None
    output = process.stdout
    decode = msgspec.json.Decoder(Opened | Heard).decode

    def said() -> Iterator[Opened | Heard]:
        for line in output:
            yield decode(line)
        raise Failed(f"the reader failed\n{last_words(folder)}")

    try:
        process.stdin.write(msgspec.json.encode(errand) + b"\n")
        process.stdin.close()
        yield said()
    finally:
        process.kill()
        process.wait()
