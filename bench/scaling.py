"""`python -m bench.scaling [--rounds N]`: jobs a second with 1, 2 and 4 workers of an engine that sleeps.

Each worker takes one job at a time and sleeps 20 ms over it, so it can do 50 a second. All goes through
the whole system, `POST /v1/infer` with a closed loop of clients, as in `python -m bench`.
"""

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
from redis.exceptions import RedisError

from bench.command import parser, publish, run, today
from bench.reporting.machine import Machine, look_around, machine_lines
from bench.sleeper import STEP_SECONDS
from bench.subjects import Serving
from bench.subjects.ours import Ours
from bench.turn import Turn, TurnFailed, take_turn
from shared.redis.connection import connect
from shared.store.jobs import JobStore

MODEL = "sleeper"
CATALOGUE = f"models: {{{MODEL}: {{engine: 'bench.sleeper:Sleeper', batch: {{max_size: 1}}}}}}\n"
WORKERS = (1, 2, 4)
CLIENTS = 8
"""A worker; so many that none of them lacks work."""
LEAST = 0.95
START_SECONDS = 120.0


class Point(msgspec.Struct, frozen=True):
    """So many workers: jobs a second, round by round, and processor milliseconds a job by processes.

    `share` is the median over the rounds of the rate over that of as many workers that are like the one
    of the same round; `bound` of that over what their sleep leaves possible.
    """

    workers: int
    rates: list[float]
    share: float
    bound: float
    cpu_ms: dict[str, float]
    errors: int


class Scaling(msgspec.Struct, frozen=True):
    """What `python -m bench.scaling` found. `seconds` is the measured time of one point in one round."""

    date: str
    machine: Machine
    seconds: float
    points: list[Point]


class Workers(Ours):
    """So many workers of the model, all of them ready."""

    def __init__(self, processes: int) -> None:
        super().__init__(processes, model=MODEL, catalogue=CATALOGUE)

    @contextmanager
    def serve(self, folder: Path) -> Iterator[Serving]:
        with super().serve(folder) as serving:
            self._await(serving.redis_url or "")
            yield serving

    def _await(self, redis_url: str) -> None:
        store = JobStore(connect(redis_url, 5.0))
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            states = [said.get("state") for said in store.status(MODEL).workers.values()]
            if states.count("ready") == self.processes:
                return
            time.sleep(0.1)
        raise TurnFailed(f"of {self.processes} workers these came: {states}")


def main() -> int:
    options = _options()
    return run(lambda: _measure_all(options), TurnFailed)


def _measure_all(options: argparse.Namespace) -> int:
    result = measure(options.workers, options.rounds, options.seconds)
    publish(result, render(result), options.results, f"{result.date}-scaling")
    return 0


def _options() -> argparse.Namespace:
    options = parser("bench.scaling", __doc__)
    options.add_argument(
        "--workers", type=int, nargs="+", default=WORKERS, help="the first is the measure"
    )
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--seconds", type=float, default=10.0)
    return options.parse_args()


def measure(workers: list[int], rounds: int, seconds: float) -> Scaling:
    """All points in turn, round after round. Raises `TurnFailed`."""
    machine = look_around()
    turns: dict[int, list[Turn]] = {count: [] for count in workers}
    with tempfile.TemporaryDirectory(prefix="scaling-") as folder:
        for _ in range(rounds):
            for count in workers:
                turns[count].append(
                    take_turn(
                        Workers(count),
                        Path(folder) / "turn",
                        clients=CLIENTS * count,
                        warm_up=2.0,
                        seconds=seconds,
                    )
                )
    first = [turn.report.rate / workers[0] for turn in turns[workers[0]]]
    points = []
    for count, taken in turns.items():
        rates = [turn.report.rate for turn in taken]
        shares = [rate / (count * one) for rate, one in zip(rates, first, strict=True)]
        groups = {name for turn in taken for name in turn.cost.cpu_ms}
        cpu = {
            name: statistics.median(turn.cost.cpu_ms.get(name, 0.0) for turn in taken)
            for name in sorted(groups)
        }
        errors = sum(sum(turn.report.errors.values()) for turn in taken)
        bound = statistics.median(rates) * STEP_SECONDS / count
        points.append(Point(count, rates, statistics.median(shares), bound, cpu, errors))
    return Scaling(today(), machine, seconds, points)


def render(result: Scaling) -> str:
    """The report, as Markdown."""
    lines = [
        f"# Workers of an engine that sleeps {STEP_SECONDS * 1000:.0f} ms, {result.date}",
        "",
        machine_lines(result.machine),
        "",
        f"{CLIENTS} clients a "
        f"worker in a closed loop, {result.seconds:g} s each, {len(result.points[0].rates)} rounds in turn.",
        "",
        f"Goal: ≥ {LEAST} × linear.",
        "",
        "| workers | jobs/s (low to high) | of linear | of what the sleep leaves | errors | CPU ms a job |",
        "|---|---|---|---|---|---|",
    ]
    for point in result.points:
        spent = ", ".join(f"{name} {ms:.2f}" for name, ms in point.cpu_ms.items())
        lines.append(
            f"| {point.workers} | {statistics.median(point.rates):.1f} ({min(point.rates):.1f} to "
            f"{max(point.rates):.1f}) | {point.share:.3f} × | {point.bound:.3f} × | {point.errors} "
            f"| {spent} |"
        )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (TurnFailed, RedisError) as error:
        sys.exit(str(error))
