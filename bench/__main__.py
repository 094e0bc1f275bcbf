"""`python -m bench [--quick] [--only NAME]`: run the contests, print and write what came out."""

import argparse
import shutil
import signal
import sys
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType

from bench.contests import CONTESTS, FULL, QUICK, Contest, Plan
from bench.files import write
from bench.machine import look_around
from bench.programs import REPOSITORY
from bench.report import render
from bench.result import Entry, Outcome, Result, compare
from bench.turn import Turn, TurnFailed, take_turn

RESULTS = REPOSITORY / "bench" / "results"
SCRATCH = REPOSITORY / ".bench"
INTERRUPTED = 130


def main() -> int:
    """0 when every job of ours was answered rightly."""
    options = _options()
    # Also where a shell started this in the background and told it to ignore Ctrl-C.
    for signum in (signal.SIGINT, signal.SIGTERM):
        signal.signal(signum, _interrupt)
    plan = QUICK if options.quick else FULL
    contests = [c for c in CONTESTS if options.only in (None, c.name)]
    machine = look_around()
    try:
        outcomes = [_hold(contest, plan, quick=options.quick) for contest in contests]
    except KeyboardInterrupt:
        print("interrupted; nothing is written", file=sys.stderr)
        return INTERRUPTED
    except TurnFailed as failure:
        print(failure, file=sys.stderr)
        return 1
    date = datetime.now(UTC).date().isoformat()
    result = Result(date, options.quick, plan, machine, outcomes)
    text = render(result)
    print(f"\n{text}")
    write(result, text, options.results, result.stem)
    wrong = sum(turn.report.wrong for outcome in outcomes for turn in outcome.entries[0].turns)
    return 1 if wrong else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="about 2 minutes instead of 10")
    parser.add_argument("--only", choices=[c.name for c in CONTESTS], help="one contest alone")
    parser.add_argument("--results", type=Path, default=RESULTS, help="where the files are written")
    return parser.parse_args()


def _hold(contest: Contest, plan: Plan, *, quick: bool) -> Outcome:
    """All rounds of a contest: A B A B."""
    subjects = contest.subjects(quick)
    turns: list[list[Turn]] = [[] for _ in subjects]
    scratch = SCRATCH / contest.name
    for number in range(1, plan.rounds + 1):
        for subject, taken in zip(subjects, turns, strict=True):
            turn = take_turn(
                subject,
                scratch,
                clients=contest.clients,
                warm_up=plan.warm_up,
                seconds=plan.seconds,
            )
            taken.append(turn)
            report = turn.report
            print(
                f"{contest.name} round {number}/{plan.rounds}  {subject.name}, {subject.variant}: "
                f"{report.rate:,.0f} jobs/s, p50 {report.latency.p50:.1f} ms, {report.wrong} wrong",
                flush=True,
            )
    shutil.rmtree(scratch, ignore_errors=True)
    entries = [
        Entry(s.name, s.variant, s.settings, taken)
        for s, taken in zip(subjects, turns, strict=True)
    ]
    return Outcome(contest.name, contest.title, contest.clients, entries, compare(entries))


def _interrupt(_signum: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
