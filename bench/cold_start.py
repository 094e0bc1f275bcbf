"""`python -m bench.cold_start [--rounds N]`: how long a server takes from its command to its first answer.

`truthgpt api` until `/health` answers, with a Redis that runs already; `truthgpt up` until `/ready` answers
and every model of its catalogue serves, with a Redis of its own and an empty state directory. What the
processor spent until then, by all processes together, depends less on what else the machine does.
"""

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

import httpx
import msgspec
import psutil

from bench.command import parser, publish, run, today
from bench.programs import Program, programs
from bench.reporting.machine import Machine, look_around, machine_lines
from shared.embedded_redis import free_port

TOKEN = "cold-start-bench-token-of-32-characters"
PATIENCE, POLL = 120.0, 0.1


class Start(msgspec.Struct, frozen=True):
    """Seconds, round by round: by the clock, and user and system time of all processes so far."""

    name: str
    goal: float
    seconds: list[float]
    cpu_seconds: list[float]

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)


class ColdStart(msgspec.Struct, frozen=True):
    """What `python -m bench.cold_start` found."""

    date: str
    machine: Machine
    starts: list[Start]


def main() -> int:
    options = _options()
    return run(lambda: _measure_all(options), RuntimeError)


def _measure_all(options: argparse.Namespace) -> int:
    machine = look_around()
    starts = [measure(name, options.rounds) for name in options.only or STARTS]
    result = ColdStart(today(), machine, starts)
    publish(result, render(result), options.results, f"{result.date}-cold-start")
    return 0


def _options() -> argparse.Namespace:
    options = parser("bench.cold_start", __doc__)
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument("--only", action="append", choices=STARTS)
    return options.parse_args()


def measure(name: str, rounds: int) -> Start:
    """Start and end it so often. Raises `RuntimeError` when it does not come."""
    goal, start = STARTS[name]
    taken = []
    for _ in range(rounds):
        with tempfile.TemporaryDirectory(prefix="cold-start-") as folder:
            taken.append(start(Path(folder)))
    seconds, cpu_seconds = ([pair[i] for pair in taken] for i in (0, 1))
    return Start(name, goal, seconds, cpu_seconds)


def _api(folder: Path) -> tuple[float, float]:
    with programs(folder) as running:
        env = {**_env(folder), "REDIS_URL": running.redis().url}
        port = free_port()
        began = time.monotonic()
        api = running.start("api", env, "-m", "cli", "api", "--port", str(port))
        return _until(api, began, port, _healthy)


def _up(folder: Path) -> tuple[float, float]:
    with programs(folder) as running:
        port = free_port()
        flower = ("--flower-port", str(free_port()))
        began = time.monotonic()
        server = running.start("up", _env(folder), "-m", "cli", "up", "--port", str(port), *flower)
        return _until(server, began, port, _all_serve)


STARTS: dict[str, tuple[float, Callable[[Path], tuple[float, float]]]] = {
    "truthgpt api, to /health": (2.0, _api),
    "truthgpt up, to /ready with both demo models": (12.0, _up),
}
"""By name: the goal in seconds, and what starts it once and returns seconds and processor seconds."""


def _env(folder: Path) -> Mapping[str, str]:
    return {"TRUTHGPT_STATE_DIR": str(folder / "state"), "TRUTHGPT_API_TOKEN": TOKEN}


def _until(
    program: Program, began: float, port: int, ready: Callable[[httpx.Client], bool]
) -> tuple[float, float]:
    url, headers = f"http://127.0.0.1:{port}", {"Authorization": f"Bearer {TOKEN}"}
    with httpx.Client(base_url=url, headers=headers, timeout=5.0) as client:
        while time.monotonic() - began < PATIENCE:
            with suppress(httpx.TransportError):
                if ready(client):
                    return time.monotonic() - began, _cpu(program)
            time.sleep(POLL)
    raise RuntimeError(f"{program.name} does not answer\n{program.log.read_text('utf-8')[-2000:]}")


def _healthy(client: httpx.Client) -> bool:
    return client.get("/health").status_code == 200


def _all_serve(client: httpx.Client) -> bool:
    if client.get("/ready").status_code != 200:
        return False
    models = client.get("/v1/models").raise_for_status().json()["data"]
    return all(model["state"] == "ready" for model in models)


def _cpu(program: Program) -> float:
    """Of all that live, and of those whom these have waited for."""
    spent = 0.0
    for process in (*program.parent, *program.children):
        with suppress(psutil.NoSuchProcess):
            spent += sum(process.cpu_times()[:4])
    return spent


def render(result: ColdStart) -> str:
    """The report, as Markdown."""
    lines = [
        f"# Cold starts, {result.date}",
        "",
        machine_lines(result.machine),
        "",
        f"{len(result.starts[0].seconds)} rounds; files were read before.",
        "",
        "| start | s, median (low to high) | goal, s | processor s, median (low to high) |",
        "|---|---|---|---|",
    ]
    for start in result.starts:
        clock, cpu = (
            f"{statistics.median(of):.2f} ({min(of):.2f} to {max(of):.2f})"
            for of in (start.seconds, start.cpu_seconds)
        )
        lines.append(f"| {start.name} | {clock} | ≤ {start.goal:g} | {cpu} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
