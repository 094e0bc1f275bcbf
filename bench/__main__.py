"""Run the contests, write what came out: `python -m bench [--quick] [--only C] [--peers a,b] [--shape S]`."""

import argparse
import signal
import sys
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType

import msgspec

from bench.contests import CONTESTS, FULL, QUICK, slug
from bench.files import write
from bench.machine import look_around
from bench.plots import PlotFailed, draw
from bench.programs import REPOSITORY
from bench.report import render
from bench.result import Outcome, Result
from bench.rounds import hold
from bench.shapes import SHAPES
from bench.turn import TurnFailed

RESULTS = REPOSITORY / "bench" / "results"
SCRATCH = REPOSITORY / ".bench"
INTERRUPTED = 130


def main() -> int:
    """0 when every job of ours was answered rightly."""
    options = _options()
    # Also where a shell started this in the background and told it to ignore Ctrl-C.
    for signum in (signal.SIGINT, signal.SIGTERM):
        signal.signal(signum, _interrupt)
    plan = msgspec.structs.replace(QUICK if options.quick else FULL, shape=options.shape)
    machine = look_around()
    outcomes: list[Outcome] = []
    try:
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
    except KeyboardInterrupt:
        print("interrupted; nothing is written", file=sys.stderr)
        return INTERRUPTED
    except TurnFailed as failure:
        print(failure, file=sys.stderr)
        return 1
    date = datetime.now(UTC).date().isoformat()
    result = Result(date, options.quick, plan, machine, outcomes)
    text = render(result, _plot(result, options.results))
    print(f"\n{text}")
    write(result, text, options.results, result.stem)
    wrong = sum(turn.report.wrong for outcome in outcomes for turn in outcome.entries[0].turns)
    return 1 if wrong else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="about 3 minutes instead of 15")
    parser.add_argument("--only", choices=[c.name for c in CONTESTS], help="one contest alone")
    parser.add_argument(
        "--peers", type=_peers, help="these alone beside ours, for example celery,litserve"
    )
    parser.add_argument(
        "--shape", choices=SHAPES, default="client", help="how requests are sent (client)"
    )
    parser.add_argument("--results", type=Path, default=RESULTS, help="where the files are written")
    return parser.parse_args()


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


def _interrupt(_signum: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
