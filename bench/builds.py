"""`python -m bench.builds --against CHECKOUT`: this code beside another checkout of it, in turn, A B A B.

Both run with the packages of this environment. Each shape of requests is measured with 64 clients and with
one alone; what is printed are ratios, this code over the other.
"""

import argparse
import shutil
import statistics
import sys
from collections.abc import Callable
from pathlib import Path

import msgspec

from bench.clients.shapes import SHAPES, Shape
from bench.command import SCRATCH, parser, publish, run, today
from bench.reporting.figures import ratio
from bench.reporting.machine import Machine, look_around, machine_lines
from bench.reporting.table import table
from bench.subjects.ours import Ours
from bench.turn import Turn, TurnFailed, take_turn

FOLDER = SCRATCH / "builds"
CLIENTS = (64, 1)
WARM_UP = 3.0

FIGURES: dict[str, tuple[str, Callable[[Turn], float]]] = {
    "jobs/s": ("{:,.0f}", lambda turn: turn.report.rate),
    "p50 ms": ("{:.2f}", lambda turn: turn.report.latency.p50),
    "API processor ms/job": ("{:.3f}", lambda turn: turn.cost.cpu_ms["front end"]),
    "all processor ms/job": ("{:.3f}", lambda turn: sum(turn.cost.cpu_ms.values())),
    "Redis processor ms/job": ("{:.3f}", lambda turn: turn.cost.cpu_ms["redis"]),
    "Redis commands/job": (
        "{:.1f}",
        lambda turn: sum(command.calls for command in turn.cost.commands.values()),
    ),
}


class Pair(msgspec.Struct, frozen=True):
    """The turns of both sides in one shape, with so many clients, one of each a round."""

    shape: Shape
    clients: int
    here: list[Turn]
    there: list[Turn]


class Builds(msgspec.Struct, frozen=True):
    """One run. `against` is the name of the other checkout's folder; `seconds` are measured in each turn."""

    date: str
    machine: Machine
    against: str
    seconds: float
    pairs: list[Pair]


def measure(
    against: Path, shapes: list[Shape], rounds: int, seconds: float, packages: Path | None = None
) -> Builds:
    """All rounds of all pairs; `packages` are for this code alone. Raises `TurnFailed`."""
    machine = look_around()
    pairs = [
        _pair(Ours(packages=packages), against, shape, clients, rounds, seconds)
        for shape in shapes
        for clients in CLIENTS
    ]
    return Builds(today(), machine, against.name, seconds, pairs)


def _pair(
    ours: Ours, against: Path, shape: Shape, clients: int, rounds: int, seconds: float
) -> Pair:
    pair, other = Pair(shape, clients, [], []), Ours(checkout=against)
    for _ in range(rounds):
        for turns, subject in ((pair.here, ours), (pair.there, other)):
            turns.append(_turn(subject, shape, clients, seconds))
        print(
            f"{shape}, {clients} clients: {pair.here[-1].report.rate:,.0f} jobs/s here, "
            f"{pair.there[-1].report.rate:,.0f} there",
            flush=True,
        )
    return pair


def _turn(subject: Ours, shape: Shape, clients: int, seconds: float) -> Turn:
    try:
        return take_turn(
            subject, FOLDER, clients=clients, warm_up=WARM_UP, seconds=seconds, shape=shape
        )
    finally:
        shutil.rmtree(FOLDER, ignore_errors=True)


def render(result: Builds) -> str:
    """The report as Markdown: a row a figure, medians of the rounds and the ratio of the medians."""
    rows = [
        (pair.shape, str(pair.clients), name, *_row(pair, shown, of))
        for pair in result.pairs
        for name, (shown, of) in FIGURES.items()
    ]
    wrong = sum(t.report.wrong for p in result.pairs for t in (*p.here, *p.there))
    parts = [
        f"# This code beside {result.against}, {result.date}",
        machine_lines(result.machine),
        f"`POST /v1/infer`, echo, {len(result.pairs[0].here)} rounds in turn, {result.seconds:g} s a turn, "
        f"medians; {wrong} wrong answers.",
        table(
            ("shape", "clients", "figure", "here", "there", "ratio (lowest - highest round)"), rows
        ),
    ]
    return "\n\n".join(parts) + "\n"


def _row(pair: Pair, shown: str, of: Callable[[Turn], float]) -> tuple[str, str, str]:
    here, there = [of(turn) for turn in pair.here], [of(turn) for turn in pair.there]
    over = ratio(here, there)
    return (
        shown.format(statistics.median(here)),
        shown.format(statistics.median(there)),
        f"{over.median:.2f} × ({over.low:.2f} - {over.high:.2f})",
    )


def main() -> int:
    """0 when it ran; what came out is for people to judge."""
    options = _options()
    return run(lambda: _measure(options), TurnFailed)


def _measure(options: argparse.Namespace) -> int:
    result = measure(
        options.against, options.shapes, options.rounds, options.seconds, options.packages
    )
    publish(result, render(result), options.results, f"{result.date}-builds")
    return 0


def _options() -> argparse.Namespace:
    options = parser("bench.builds", __doc__)
    options.add_argument(
        "--against", type=_checkout, required=True, help="root of the other checkout"
    )
    options.add_argument(
        "--packages",
        type=Path,
        help="a folder of packages for this code's side alone, as `pip install --target` makes it: with "
        "gunicorn_h1c in it that side has what the extra `fast` installs",
    )
    options.add_argument("--shapes", nargs="+", choices=SHAPES, default=["client", "same"])
    options.add_argument("--rounds", type=int, default=3, help="turns of each side")
    options.add_argument("--seconds", type=float, default=5.0, help="measured in each turn")
    return options.parse_args()


def _checkout(path: str) -> Path:
    root = Path(path).resolve()
    if not (root / "cli" / "__main__.py").is_file():
        raise argparse.ArgumentTypeError(f"{root} is no checkout of this project")
    return root


if __name__ == "__main__":
    sys.exit(main())
