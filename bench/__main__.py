"""Run the contests, write what came out: `python -m bench [--quick] [--only C] [--peers a,b] [--shape S]`."""

import argparse
import sys
from pathlib import Path

import msgspec

from bench.clients.shapes import SHAPES
from bench.command import SCRATCH, parser, publish, run, today
from bench.contests import CONTESTS, FULL, QUICK, slug
from bench.reporting.machine import look_around
from bench.reporting.plots import PlotFailed, draw
from bench.reporting.report import render
from bench.reporting.result import Outcome, Result
from bench.rounds import hold
from bench.turn import TurnFailed


def main() -> int:
    """0 when every job of ours was answered rightly."""
    options = _options()
    return run(lambda: _measure(options), TurnFailed)


def _measure(options: argparse.Namespace) -> int:
    plan = msgspec.structs.replace(QUICK if options.quick else FULL, shape=options.shape)
    machine = look_around()
    outcomes: list[Outcome] = []
    for contest in CONTESTS:
        if options.only in (None, contest.name):
            outcome = hold(
                contest,
                plan,
                quick=options.quick,
                peers=options.peers,
                scratch=SCRATCH,
                held=outcomes,
            )
            outcomes.append(outcome)
    result = Result(today(), options.quick, plan, machine, outcomes)
    publish(result, render(result, _plot(result, options.results)), options.results, result.stem)
    wrong = sum(turn.report.wrong for outcome in outcomes for turn in outcome.entries[0].turns)
    return 1 if wrong else 0


def _options() -> argparse.Namespace:
    options = parser("bench", __doc__)
    options.add_argument("--quick", action="store_true", help="about 3 minutes instead of 15")
    options.add_argument("--only", choices=[c.name for c in CONTESTS], help="one contest alone")
    options.add_argument(
        "--peers", type=_peers, help="these alone beside ours, for example celery,litserve"
    )
    options.add_argument(
        "--shape", choices=SHAPES, default="client", help="how requests are sent (client)"
    )
    return options.parse_args()


def _peers(listed: str) -> list[str]:
    names = {slug(s.name) for c in CONTESTS for s in c.subjects(quick=False)[1:]}
    asked = listed.split(",")
    if unknown := [name for name in asked if name not in names]:
        raise argparse.ArgumentTypeError(
            f"no peer {', '.join(unknown)}; there are {', '.join(sorted(names))}"
        )
    return asked


def _plot(result: Result, folder: Path) -> str:
    """The report's line about its plot."""
    folder.mkdir(parents=True, exist_ok=True)
    try:
        path = draw(result, folder)
    except PlotFailed as failure:
        return f"No plot: {failure}."
    print(f"wrote {path}")
    return f"![Each contest's figure, by subject]({path.name})"


if __name__ == "__main__":
    sys.exit(main())
