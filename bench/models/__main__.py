"""`python -m bench.models [--quick] [--only NAME]`: models over HTTP, beside peers, in turn."""

import argparse
import os
import shutil
import sys
from collections.abc import Callable

from bench.command import OFFLINE, SCRATCH, parser, publish, run, today

os.environ.update(OFFLINE)

from bench.models.contests import Contest, embedding, generation, openai_embeddings
from bench.models.images import images
from bench.models.match import Failed, play
from bench.models.report import render
from bench.models.result import Result
from bench.models.subjects import thin
from bench.reporting.machine import look_around

PACKAGES = ("torch", "transformers", "tokenizers", "celery", "redis", "gunicorn", "gevent")
ROUNDS = 2
Make = Callable[[bool], Contest]
CONTESTS: dict[str, Make] = {
    "generation": lambda quick: generation(64 if quick else 256),
    "embedding-1": lambda quick: embedding(400 if quick else 2000, 1, 64, (32,)),
    "images": lambda quick: images(200 if quick else 1000),
    "openai-embeddings": lambda quick: openai_embeddings(24 if quick else 96, 32, 8),
    "openai-embeddings-thin": lambda quick: openai_embeddings(
        48 if quick else 192, 128, 8, "thin", thin(SCRATCH / "models" / "thin")
    ),
    "embedding-32": lambda quick: embedding(24 if quick else 96, 32, 8, (1, 4)),
}


def main() -> int:
    """0 when all subjects did the same work."""
    options = _options()
    return run(lambda: _measure(options), Failed)


def _measure(options: argparse.Namespace) -> int:
    scratch = SCRATCH / "models"
    machine = look_around(PACKAGES)
    shutil.rmtree(scratch, ignore_errors=True)
    rounds = 1 if options.quick else ROUNDS
    try:
        names = [options.only] if options.only else list(CONTESTS)
        outcomes = [play(CONTESTS[name](options.quick), rounds, scratch) for name in names]
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    result = Result(today(), options.quick, machine, outcomes)
    if options.only is None:
        publish(result, render(result), options.results, result.stem)
    else:
        print(f"\n{render(result)}")
    return 1 if any(outcome.wrong for outcome in outcomes) else 0


def _options() -> argparse.Namespace:
    options = parser("bench.models", __doc__)
    options.add_argument("--quick", action="store_true", help="one round, about 2 minutes")
    options.add_argument(
        "--only", choices=list(CONTESTS), help="one contest alone; nothing is written"
    )
    return options.parse_args()


if __name__ == "__main__":
    sys.exit(main())
