"""`python -m bench.models [--quick] [--only NAME]`: models over HTTP, beside LitServe, in turn."""

import argparse
import os
import shutil
import signal
import sys
from collections.abc import Callable
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

from bench.environments import EnvironmentFailed, python_of
from bench.files import write
from bench.machine import look_around
from bench.models.contests import Contest, embedding, generation
from bench.models.match import Failed, play
from bench.models.report import render
from bench.models.result import Result
from bench.programs import REPOSITORY

RESULTS = REPOSITORY / "bench" / "results"
SCRATCH = REPOSITORY / ".bench" / "models"
PACKAGES = ("torch", "transformers", "tokenizers", "celery", "redis", "gunicorn", "gevent")
ROUNDS = 2
INTERRUPTED = 130
Make = Callable[[bool], Contest]
CONTESTS: dict[str, Make] = {
    "generation": lambda quick: generation(64 if quick else 256),
    "embedding-1": lambda quick: embedding(400 if quick else 2000, 1, 64, (32,)),
    "embedding-32": lambda quick: embedding(24 if quick else 96, 32, 8, (1, 4)),
}


def main() -> int:
    """0 when all subjects did the same work."""
    options = _options()
    for signum in (signal.SIGINT, signal.SIGTERM):
        signal.signal(signum, _interrupt)
    machine = look_around(PACKAGES)
    shutil.rmtree(SCRATCH, ignore_errors=True)
    rounds = 1 if options.quick else ROUNDS
    try:
        python_of("litserve")
        names = [options.only] if options.only else list(CONTESTS)
        outcomes = [play(CONTESTS[name](options.quick), rounds, SCRATCH) for name in names]
    except KeyboardInterrupt:
        print("interrupted; nothing is written", file=sys.stderr)
        return INTERRUPTED
    except (Failed, EnvironmentFailed) as failure:
        print(failure, file=sys.stderr)
        return 1
    finally:
        shutil.rmtree(SCRATCH, ignore_errors=True)
    date = datetime.now(UTC).date().isoformat()
    result = Result(date, options.quick, machine, outcomes)
    text = render(result)
    print(f"\n{text}")
    if options.only is None:
        write(result, text, options.results, result.stem)
    return 1 if any(outcome.wrong for outcome in outcomes) else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.models", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one round, about 2 minutes")
    parser.add_argument(
        "--only", choices=list(CONTESTS), help="one contest alone; nothing is written"
    )
    parser.add_argument("--results", type=Path, default=RESULTS, help="where the files are written")
    return parser.parse_args()


def _interrupt(_signum: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
