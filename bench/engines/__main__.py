"""`python -m bench.engines [--quick] [--only NAME ...]`: measure the engines and write what came out."""

import argparse
import os
import sys

from bench.command import OFFLINE, SCRATCH, parser, publish, run, today

os.environ.update(OFFLINE)

from bench.engines.driving import Failed
from bench.engines.parts import PARTS, measure
from bench.engines.plan import FULL, QUICK
from bench.engines.report import render
from bench.engines.result import Result
from bench.reporting.machine import look_around

PACKAGES = ("torch", "transformers", "tokenizers", "celery", "redis", "gunicorn", "gevent")


def main() -> int:
    """0 when no answer of ours was wrong."""
    options = _options()
    return run(lambda: _measure(options), Failed)


def _measure(options: argparse.Namespace) -> int:
    plan = QUICK if options.quick else FULL
    machine = look_around(PACKAGES)
    parts = []
    for name in options.only or PARTS:
        parts += measure(name, plan, SCRATCH / "engines")
    result = Result(today(), options.quick, plan, machine, parts, "-".join(options.only))
    publish(result, render(result), options.results, result.stem)
    return 1 if result.wrong else 0


def _options() -> argparse.Namespace:
    options = parser("bench.engines", __doc__)
    options.add_argument("--quick", action="store_true", help="about 1.5 minutes instead of 6")
    options.add_argument(
        "--only", nargs="+", choices=list(PARTS), default=[], help="these parts alone"
    )
    return options.parse_args()


if __name__ == "__main__":
    sys.exit(main())
