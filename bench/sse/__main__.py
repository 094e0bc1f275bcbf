"""`python -m bench.sse [--quick] [--streams N]`: how many streams one API process holds, and how well."""

import argparse
import shutil
import signal
import sys
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType

import msgspec

from bench.files import write
from bench.machine import look_around
from bench.programs import REPOSITORY
from bench.sse.holding import Failed, measure
from bench.sse.report import render
from bench.sse.result import FULL, QUICK, Result

RESULTS = REPOSITORY / "bench" / "results"
SCRATCH = REPOSITORY / ".bench" / "sse"
SHARED = 100
"""Readers of each job in the second round; in the first, every stream has a job of its own."""
INTERRUPTED = 130


def main() -> int:
    """0 when every stream got exactly what was appended to its job."""
    options = _options()
    for signum in (signal.SIGINT, signal.SIGTERM):
        signal.signal(signum, _interrupt)
    plan = QUICK if options.quick else FULL
    if options.streams:
        plan = msgspec.structs.replace(plan, streams=options.streams)
    machine = look_around()
    shutil.rmtree(SCRATCH, ignore_errors=True)
    try:
        held = [
            measure(plan, jobs, SCRATCH / str(jobs))
            for jobs in (plan.streams, max(1, plan.streams // SHARED))
        ]
    except KeyboardInterrupt:
        print("interrupted; nothing is written", file=sys.stderr)
        return INTERRUPTED
    except Failed as failure:
        print(failure, file=sys.stderr)
        return 1
    finally:
        shutil.rmtree(SCRATCH, ignore_errors=True)
    date = datetime.now(UTC).date().isoformat()
    result = Result(date, options.quick, plan, machine, held)
    text = render(result)
    print(f"\n{text}")
    write(result, text, options.results, result.stem)
    return 1 if result.wrong else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.sse", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="500 streams, about 40 seconds")
    parser.add_argument("--streams", type=int, help="how many instead")
    parser.add_argument("--results", type=Path, default=RESULTS, help="where the files are written")
    return parser.parse_args()


def _interrupt(_signum: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
