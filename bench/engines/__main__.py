"""`python -m bench.engines [--quick] [--only NAME]`: measure the engines, print and write what came out."""

import argparse
import os
import signal
import sys
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType

# No progress bars, no network: before anything imports transformers.
os.environ.update(
    HF_HUB_OFFLINE="1",
    HF_HUB_DISABLE_PROGRESS_BARS="1",
    TOKENIZERS_PARALLELISM="false",
    TRANSFORMERS_VERBOSITY="error",
)

from bench.engines.driving import Failed
from bench.engines.parts import PARTS, measure
from bench.engines.plan import FULL, QUICK
from bench.engines.report import render
from bench.engines.result import Result
from bench.files import write
from bench.machine import look_around
from bench.programs import REPOSITORY

RESULTS = REPOSITORY / "bench" / "results"
SCRATCH = REPOSITORY / ".bench" / "engines"
PACKAGES = ("torch", "transformers", "tokenizers", "celery", "redis", "gunicorn", "gevent")
INTERRUPTED = 130


def main() -> int:
    """0 when no answer of ours was wrong."""
    options = _options()
    for signum in (signal.SIGINT, signal.SIGTERM):
        signal.signal(signum, _interrupt)
    plan = QUICK if options.quick else FULL
    machine = look_around(PACKAGES)
    parts = []
    try:
        for name in [options.only] if options.only else PARTS:
            parts += measure(name, plan, SCRATCH)
    except KeyboardInterrupt:
        print("interrupted; nothing is written", file=sys.stderr)
        return INTERRUPTED
    except Failed as failure:
        print(failure, file=sys.stderr)
        return 1
    date = datetime.now(UTC).date().isoformat()
    result = Result(date, options.quick, plan, machine, parts)
    text = render(result)
    print(f"\n{text}")
    write(result, text, options.results, result.stem)
    return 1 if result.wrong else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.engines", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="about 1.5 minutes instead of 6")
    parser.add_argument("--only", choices=list(PARTS), help="one part alone")
    parser.add_argument("--results", type=Path, default=RESULTS, help="where the files are written")
    return parser.parse_args()


def _interrupt(_signum: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
