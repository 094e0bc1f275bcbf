"""`python -m bench.sse [--quick] [--streams N]`: how many streams one API process holds, and how well."""

import argparse
import shutil
import sys

import msgspec

from bench.command import SCRATCH, parser, publish, run, today
from bench.reporting.machine import look_around
from bench.sse.holding import Failed, measure
from bench.sse.report import render
from bench.sse.result import FULL, QUICK, Result

SHARED = 100
"""Readers of each job in the second round; in the first, every stream has a job of its own."""


def main() -> int:
    """0 when every stream got exactly what was appended to its job."""
    options = _options()
    return run(lambda: _measure(options), Failed)


def _measure(options: argparse.Namespace) -> int:
    scratch = SCRATCH / "sse"
    plan = QUICK if options.quick else FULL
    if options.streams:
        plan = msgspec.structs.replace(plan, streams=options.streams)
    machine = look_around()
    shutil.rmtree(scratch, ignore_errors=True)
    try:
        held = [
            measure(plan, jobs, scratch / str(jobs))
            for jobs in (plan.streams, max(1, plan.streams // SHARED))
        ]
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    result = Result(today(), options.quick, plan, machine, held)
    publish(result, render(result), options.results, result.stem)
    return 1 if result.wrong else 0


def _options() -> argparse.Namespace:
    options = parser("bench.sse", __doc__)
    options.add_argument("--quick", action="store_true", help="500 streams, about 40 seconds")
    options.add_argument("--streams", type=int, help="how many instead")
    return options.parse_args()


if __name__ == "__main__":
    sys.exit(main())
