"""`python -m bench.cache [--rounds N]`: what an answer from the cache costs, beside one that is worked out.

A real stack serves demo-llama; one client on one connection asks each prompt twice, first to be worked
out, then to be found. Then the job store alone: what the calls of jobs that share cost beside others.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import msgspec

from bench.command import parser, publish, run, today
from bench.programs import REPOSITORY
from bench.reporting.figures import over, percentile
from bench.reporting.machine import Machine, look_around, machine_lines
from bench.subjects.ours import Ours
from shared.domain.records import Append, Claim, Finish, NewJob, new_job_id
from shared.domain.sharing import Share
from shared.domain.states import JobState
from shared.embedded_redis import EmbeddedRedis
from shared.redis.connection import connect
from shared.store.jobs import JobStore

MODEL, TOKENS = "demo-llama", 32
FOLDER = REPOSITORY / "models" / MODEL
CATALOGUE = f"models: {{{MODEL}: {{engine: text-generation, path: {FOLDER}, threads: 1}}}}\n"
START_SECONDS = 120
FOLLOWERS = (0, 1, 32)
USAGE = b'{"prompt_tokens":8,"completion_tokens":32,"device_seconds":0.1,"attempts":1}'


class Latency(msgspec.Struct, frozen=True):
    """Milliseconds of `POST /v1/infer` with one cache backend."""

    backend: str
    miss_p50: float
    miss_p99: float
    hit_p50: float
    hit_p99: float


class Call(msgspec.Struct, frozen=True):
    """One call of the job store, in milliseconds."""

    name: str
    p50: float
    p99: float


class Cost(msgspec.Struct, frozen=True):
    """What `python -m bench.cache` found."""

    date: str
    machine: Machine
    rounds: int
    latencies: list[Latency]
    calls: list[Call]


def main() -> int:
    options = _options()
    return run(lambda: _measure_all(options))


def _measure_all(options: argparse.Namespace) -> int:
    machine = look_around()
    latencies = [_latency(backend, options.rounds) for backend in ("redis", "memory")]
    calls = _calls(options.rounds)
    result = Cost(today(), machine, options.rounds, latencies, calls)
    publish(result, render(result), options.results, f"{result.date}-cache")
    return 0


def _options() -> argparse.Namespace:
    options = parser("bench.cache", __doc__)
    options.add_argument("--rounds", type=int, default=500)
    return options.parse_args()


def _latency(backend: str, rounds: int) -> Latency:
    env = {"CACHE_BACKEND": backend, "CACHE_MAX_SIZE": "10000", "WEB_CONCURRENCY": "1"}
    ours = Ours(model=MODEL, catalogue=CATALOGUE, env=env)
    misses: list[float] = []
    hits: list[float] = []
    with tempfile.TemporaryDirectory(prefix="cache-") as folder, ours.serve(Path(folder)) as served:
        client = httpx.Client(base_url=served.url, headers=ours.headers, timeout=60)
        _await(client)
        for number in range(rounds):
            for kept, cached in ((misses, False), (hits, True)):
                milliseconds, answer = _infer(client, f"Question {number}: what does a queue do?")
                if answer["cached"] is not cached:
                    raise RuntimeError(f"round {number} was cached: {answer['cached']}")
                kept.append(milliseconds)
        client.close()
    misses.sort(), hits.sort()
    p50, p99 = ([percentile(values, share) for values in (misses, hits)] for share in (0.5, 0.99))
    return Latency(backend, p50[0], p99[0], p50[1], p99[1])


def _await(client: httpx.Client) -> None:
    """Return when a worker serves. Raises `RuntimeError`."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        try:
            if client.get("/ready").status_code == 200:
                _infer(client, "Wake up.")
                return
        except httpx.TransportError:
            pass
        time.sleep(0.2)
    raise RuntimeError("the server does not get ready")


def _infer(client: httpx.Client, prompt: str) -> tuple[float, dict[str, Any]]:
    body = {"model": MODEL, "prompt": prompt, "params": {"max_new_tokens": TOKENS}}
    began = time.perf_counter()
    answer = client.post("/v1/infer", json=body)
    milliseconds = (time.perf_counter() - began) * 1000
    answer.raise_for_status()
    if answer.status_code != 200:
        raise RuntimeError(f"a job was answered with {answer.status_code}")
    return milliseconds, answer.json()


class Bench:
    """A job store and calls on it, each timed by itself."""

    def __init__(self, store: JobStore) -> None:
        self.store = store
        self.output = msgspec.json.encode({"text": "x" * 150, "finish_reason": "stop"})

    def ask(self, digest: str | None) -> NewJob:
        share = None if digest is None else Share(digest, 3600, 10_000, speaks=True)
        job = NewJob(new_job_id(), "m", "t", b'{"content":"x"}', share=share)
        self.store.create(job, max_queued=1000)
        return job

    def led(self, followers: int) -> Claim:
        """A running job with so many followers."""
        digest = new_job_id()
        self.ask(digest)
        [claim] = self.store.claim("m", 1, "w").claims
        for _ in range(followers):
            self.ask(digest)
        return claim

    def token(self, claim: Claim) -> None:
        self.store.write(
            [Append(claim.id, claim.attempt, 1, "token", b'{"text":"x","index":0}', "1")]
        )

    def finish(self, claim: Claim) -> None:
        end = Finish(claim.id, claim.attempt, JobState.SUCCEEDED, self.output, b"", USAGE)
        self.store.write([end])


class Times:
    """Durations in milliseconds by the name of what was timed."""

    def __init__(self) -> None:
        self._found: dict[str, list[float]] = {}

    def take(self, name: str, call: Callable[[], object]) -> None:
        began = time.perf_counter()
        call()
        self._found.setdefault(name, []).append((time.perf_counter() - began) * 1000)

    def calls(self) -> list[Call]:
        ordered = ((name, sorted(values)) for name, values in self._found.items())
        return [Call(name, percentile(v, 0.5), percentile(v, 0.99)) for name, v in ordered]


def _calls(rounds: int) -> list[Call]:
    times = Times()
    with _store() as store:
        bench = Bench(store)
        for number in range(rounds):
            digest = f"d{number}"
            times.take("create, not shared", partial(bench.ask, None))
            times.take("create, miss", partial(bench.ask, digest))
            for claim in store.claim("m", 8, "w").claims:
                bench.finish(claim)
            times.take("create, hit", partial(bench.ask, digest))
        for _ in range(rounds):
            for followers in FOLLOWERS:
                claim = bench.led(followers)
                times.take(f"token, followers: {followers}", partial(bench.token, claim))
                times.take(f"finish, followers: {followers}", partial(bench.finish, claim))
    return times.calls()


@contextmanager
def _store() -> Iterator[JobStore]:
    with tempfile.TemporaryDirectory(prefix="cache-") as folder:
        server = EmbeddedRedis(Path(folder))
        server.start()
        try:
            yield JobStore(connect(server.url, 10.0), "bench", retention=3600)
        finally:
            server.stop()


def render(result: Cost) -> str:
    """The report, as Markdown."""
    lines = [
        f"# The result cache, {result.date}",
        "",
        machine_lines(result.machine),
        "",
        f"{MODEL}, {TOKENS} new "
        f"tokens, greedy, {result.rounds} prompts, each asked twice on one connection.",
        "",
        "| backend | miss p50, ms | miss p99, ms | hit p50, ms | hit p99, ms | p50 miss / hit |",
        "|---|---|---|---|---|---|",
        *(
            f"| {row.backend} | {row.miss_p50:.1f} | {row.miss_p99:.1f} | {row.hit_p50:.2f} "
            f"| {row.hit_p99:.2f} | {over(row.miss_p50, row.hit_p50):.1f} × |"
            for row in result.latencies
        ),
        "",
        "| call of the job store | p50, ms | p99, ms |",
        "|---|---|---|",
        *(f"| {row.name} | {row.p50:.3f} | {row.p99:.3f} |" for row in result.calls),
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
