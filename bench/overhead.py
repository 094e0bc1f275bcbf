"""`python -m bench.overhead`: what metrics, traces and logs together cost in throughput.

The same closed loop against the same stack, in turn: A, B, A, B. A has everything on (metrics, traces to a
collector on this machine at the default sampling, a JSON line a request and an attempt), B everything off.
"""

import argparse
import os
import shutil
import statistics
import sys

import msgspec

from bench.collector import Collector, collector
from bench.command import SCRATCH, parser, publish, run, today
from bench.reporting.figures import Spread, ratio
from bench.reporting.machine import Machine, look_around, machine_lines
from bench.reporting.report import spread_text
from bench.reporting.table import table
from bench.subjects.ours import Ours
from bench.turn import Turn, TurnFailed, take_turn

FOLDER = SCRATCH / "overhead"
CLIENTS = 64
WARM_UP = 5.0
GOAL = 0.95
ON = {
    "metrics": {"ENABLE_METRICS": "true"},
    "traces": {"ENABLE_TRACING": "true"},
    "logs": {"ENABLE_STRUCTURED_LOGGING": "true", "LOG_LEVEL": "INFO"},
}
"""The settings that switch each kind of observer on."""
OFF = {
    "ENABLE_METRICS": "false",
    "ENABLE_TRACING": "false",
    "ENABLE_STRUCTURED_LOGGING": "false",
    "LOG_LEVEL": "ERROR",
}


class Round(msgspec.Struct, frozen=True):
    """One turn of each, and the one-minute load average of the machine before both."""

    load: float
    observed: Turn
    bare: Turn

    @property
    def ratio(self) -> float:
        """Throughput with observers over that without."""
        return self.observed.report.rate / self.bare.report.rate


class Overhead(msgspec.Struct, frozen=True):
    """One run of `kinds` of observers. `spans` is how many bytes of them came to the collector."""

    date: str
    machine: Machine
    kinds: list[str]
    seconds: float
    spans: int
    rounds: list[Round]

    @property
    def ratio(self) -> Spread:
        """Throughput with observers over that without: of the medians, and the ends of the rounds'."""
        return ratio(
            [turn.observed.report.rate for turn in self.rounds],
            [turn.bare.report.rate for turn in self.rounds],
        )


def main() -> int:
    """0 when it ran; what came out is for people to judge."""
    options = _options()
    return run(lambda: _measure(options), TurnFailed)


def _measure(options: argparse.Namespace) -> int:
    result = measure(options.rounds, options.seconds, options.only or list(ON))
    if options.only is None:
        publish(result, render(result), options.results, f"{result.date}-overhead")
    else:
        print(f"\n{render(result)}")
    return 0


def measure(rounds: int, seconds: float, kinds: list[str]) -> Overhead:
    """All rounds, `seconds` measured in each turn. Raises `TurnFailed`, also where traces are asked for
    and no span came.
    """
    machine = look_around()
    with collector() as spans:
        taken = [_round(spans, seconds, kinds) for _ in range(rounds)]
        return Overhead(today(), machine, kinds, seconds, spans.received, taken)


def _round(spans: Collector, seconds: float, kinds: list[str]) -> Round:
    on = {**OFF, "OTLP_ENDPOINT": spans.endpoint}
    for kind in kinds:
        on |= ON[kind]
    load, before = round(os.getloadavg()[0], 2), spans.received
    observed = _turn(Ours(variant="observed", env=on), seconds)
    if "traces" in kinds and spans.received == before:
        raise TurnFailed("no span came to the collector: traces were not on")
    taken = Round(load, observed, _turn(Ours(variant="bare", env=OFF), seconds))
    print(
        f"observed {taken.observed.report.rate:,.0f} jobs/s, bare {taken.bare.report.rate:,.0f} "
        f"jobs/s, ratio {taken.ratio:.3f}, load average before {load}",
        flush=True,
    )
    return taken


def _turn(subject: Ours, seconds: float) -> Turn:
    try:
        return take_turn(subject, FOLDER, clients=CLIENTS, warm_up=WARM_UP, seconds=seconds)
    finally:
        shutil.rmtree(FOLDER, ignore_errors=True)


def render(result: Overhead) -> str:
    """The report as Markdown."""
    over = result.ratio
    verdict = "within" if over.median >= GOAL else "above"
    sides = {
        "on": [turn.observed for turn in result.rounds],
        "off": [turn.bare for turn in result.rounds],
    }
    rows = []
    for name, turns in sides.items():
        groups = turns[0].cost.cpu_ms
        rows.append(
            (
                name,
                spread_text([turn.report.rate for turn in turns], 0),
                spread_text([turn.report.latency.p50 for turn in turns], 1),
                *(
                    _median([turn.cost.cpu_ms.get(group, 0.0) for turn in turns])
                    for group in groups
                ),
                _median([sum(turn.cost.cpu_ms.values()) for turn in turns]),
                str(sum(turn.report.wrong for turn in turns)),
            )
        )
    head = ("", "jobs/s", "p50 ms", *(f"{name} ms/job" for name in groups), "all ms/job", "wrong")
    rounds = [
        (
            str(n),
            f"{turn.observed.report.rate:,.0f}",
            f"{turn.bare.report.rate:,.0f}",
            f"{turn.ratio:.3f}",
            f"{turn.load:.2f}",
        )
        for n, turn in enumerate(result.rounds, 1)
    ]
    parts = [
        f"# Overhead of {', '.join(result.kinds)}, {result.date}",
        machine_lines(result.machine),
        f"**Throughput with {', '.join(result.kinds)} over nothing: {over.median:.3f}** ({over.low:.3f} - "
        f"{over.high:.3f} within a round): {verdict} the goal of {GOAL:g} or more. "
        f"{CLIENTS} clients, {result.seconds:g} s a turn; {result.spans:,} bytes of spans came.",
        table(head, rows),
        table(("round", "on, jobs/s", "off, jobs/s", "ratio", "load before"), rounds),
    ]
    return "\n\n".join(parts) + "\n"


def _median(values: list[float]) -> str:
    return f"{statistics.median(values):.3f}"


def _options() -> argparse.Namespace:
    options = parser("bench.overhead", __doc__)
    options.add_argument("--rounds", type=int, default=5, help="turns of each")
    options.add_argument("--seconds", type=float, default=15.0, help="measured in each turn")
    options.add_argument(
        "--only", nargs="+", choices=list(ON), help="these alone; nothing is written then"
    )
    return options.parse_args()


if __name__ == "__main__":
    sys.exit(main())
