"""The real stack, measured: what its processes cost a job, and what the model has to foretell."""

import shutil
import subprocess
import sys
import urllib.request
from collections.abc import Mapping
from pathlib import Path

import msgspec
from redis import Redis
from tenacity import Retrying, retry_if_exception_type, stop_after_delay, wait_fixed

from bench.accounting import Counters, read
from bench.engines.reader import Errand, Heard
from bench.order import Mark, Order, Report
from bench.programs import REPOSITORY
from bench.result import Outcome as BenchOutcome
from bench.result import Result
from bench.simulation.costs import RESULTS, ProcessCosts
from bench.subjects import Serving
from bench.subjects.ours import Ours
from bench.turn import TurnFailed, last_words, put_load

WORDS = 32
STREAMS, STREAMED_JOBS = 16, 96


class Load(msgspec.Struct, frozen=True):
    """A closed loop on a small stack. `step_ms` is the echo engine's pace a word, of 5; 0: at once."""

    workers: int
    clients: int
    step_ms: float = 0.0
    capacity: int = 32
    warm_up: float = 3.0
    seconds: float = 8.0

    @property
    def catalogue(self) -> str:
        entry = {"engine": "echo", "step_ms": self.step_ms, "batch": {"max_size": self.capacity}}
        return msgspec.json.encode({"models": {"echo": entry}}).decode()


class Real(msgspec.Struct, frozen=True):
    """What was measured; `cpu_us` is processor microseconds a job by group of processes."""

    load: Load
    rate: float
    p50: float
    p99: float
    wrong: int
    cpu_us: dict[str, float]


def measure(load: Load, scratch: Path) -> Real:
    """Start the stack, put load on it. Raises `TurnFailed`."""
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    ours = Ours(load.workers, catalogue=load.catalogue)
    with ours.serve(scratch) as serving, Redis.from_url(serving.redis_url or "") as redis:
        _knock(serving, ours)
        order = Order(serving.url, ours.dialect, load.clients, load.warm_up, load.seconds)
        marks: dict[str, Counters] = {}
        for message in put_load(order, scratch):
            if isinstance(message, Mark):
                marks[message.moment] = read(serving, redis)
            else:
                return _real(load, message, marks)
    raise TurnFailed(f"no report\n{last_words(scratch)}")


def _knock(serving: Serving, ours: Ours) -> None:
    """Wait for the first answer."""
    body = msgspec.json.encode({"model": "echo", "prompt": "knock"})
    headers = {**ours.headers, "Content-Type": "application/json"}
    request = urllib.request.Request(serving.url + "/v1/infer", body, headers)  # noqa: S310
    for attempt in Retrying(
        retry=retry_if_exception_type(OSError), wait=wait_fixed(0.2), stop=stop_after_delay(90)
    ):
        with attempt, urllib.request.urlopen(request, timeout=60):  # noqa: S310
            pass


def _real(load: Load, report: Report, marks: Mapping[str, Counters]) -> Real:
    spent = _cpu_us(marks["begins"], marks["ends"])
    cpu = {name: value / max(1, report.answers) for name, value in spent.items()}
    cpu["client"] = report.cpu_seconds * 1e6 / max(1, report.right)
    latency = report.latency
    return Real(load, report.rate, latency.p50, latency.p99, report.wrong, cpu)


def _cpu_us(before: Counters, after: Counters) -> dict[str, float]:
    return {
        name: 1e6 * sum(used - before.cpu[name].get(pid, 0.0) for pid, used in members.items())
        for name, members in after.cpu.items()
    }


def process_costs(one_shot: Real, scratch: Path) -> ProcessCosts:
    """A job's from the last `make bench-quick`, an event's from streams beside a one-shot turn, both now.

    Raises `FileNotFoundError` where there was no quick bench.
    """
    cpu, events = _streams(scratch)
    base, job = one_shot.cpu_us, last_quick().entries[0].turns[-1]

    def extra(group: str) -> float:
        return max(0.0, (cpu[group] - base[group]) / events)

    return ProcessCosts(
        api_job=job.cost.cpu_ms["front end"] * 1000,
        worker_job=job.cost.cpu_ms["worker"] * 1000,
        engine_job=job.cost.cpu_ms["engine"] * 1000,
        client_job=job.report.cpu_seconds * 1e6 / job.report.right,
        api_event=extra("front end"),
        worker_event=extra("worker"),
        engine_event=extra("engine"),
    )


def last_quick(folder: Path = RESULTS) -> BenchOutcome:
    """The contest `infer` of the last `make bench-quick`. Raises `FileNotFoundError`."""
    files = sorted(folder.glob("*-quick.json"))
    if not files:
        raise FileNotFoundError(f"no *-quick.json in {folder}; run make bench-quick")
    outcomes = msgspec.json.decode(files[-1].read_bytes(), type=Result).outcomes
    return next(outcome for outcome in outcomes if outcome.contest == "infer")


def _streams(scratch: Path) -> tuple[dict[str, float], float]:
    """Processor microseconds a streamed job by group of processes, and its events."""
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    ours = Ours(1, catalogue=Load(1, STREAMS, step_ms=10).catalogue)
    with ours.serve(scratch) as serving, Redis.from_url(serving.redis_url or "") as redis:
        body = {"model": "echo", "prompt": "word " * WORDS}
        _read(serving, ours, [body], 1)
        before = read(serving, redis)
        heard = _read(serving, ours, [body] * STREAMED_JOBS, STREAMS)
        spent = _cpu_us(before, read(serving, redis))
    events = sum(len(told.tokens) for told in heard.told) / len(heard.told)
    return {name: value / (STREAMED_JOBS + 1) for name, value in spent.items()}, events


def _read(serving: Serving, ours: Ours, bodies: list[dict[str, str]], streams: int) -> Heard:
    errand = Errand(serving.url, "/v1/infer/stream", ours.headers, streams, bodies[0], list(bodies))
    done = subprocess.run(
        [sys.executable, "-m", "bench.engines.reader"],
        cwd=REPOSITORY,
        input=msgspec.json.encode(errand) + b"\n",
        stdout=subprocess.PIPE,
        timeout=120,
        check=True,
    )
    return msgspec.json.decode(done.stdout, type=Heard)
