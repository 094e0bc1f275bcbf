"""`python -m bench.gpu [--only SIZE] [--cpu-check]`: measure text generation on the first CUDA device."""

import argparse
import os
import sys
from datetime import UTC, datetime
from pathlib import Path

# No progress bars, no network: before anything imports transformers.
os.environ.update(
    HF_HUB_OFFLINE="1",
    HF_HUB_DISABLE_PROGRESS_BARS="1",
    TOKENIZERS_PARALLELISM="false",
    TRANSFORMERS_VERBOSITY="error",
)

import torch

from bench.engines.driving import Failed
from bench.files import write
from bench.gpu.measure import measure
from bench.gpu.models import LARGE, SMALL, TINY
from bench.gpu.report import render
from bench.gpu.result import REPOSITORY, Plan, Result, look_around
from bench.gpu.roofline import bandwidth
from workers.engines.loading.placement import Placement

RESULTS = REPOSITORY / "bench" / "results"
NO_DEVICE = 2
FULL = Plan([SMALL, LARGE], [1, 32, 128], prompt=128, new=128, rounds=2, budget=2048, copied=2**31)
CHECK = Plan([TINY], [1, 3], prompt=8, new=6, rounds=1, budget=64, copied=2**20)


def main() -> int:
    """0 when everything was measured, 2 where there is nothing to measure on."""
    options = _options()
    if options.cpu_check:
        torch.set_num_threads(1)
        plan, placement = CHECK, Placement(torch.device("cpu"), torch.float32)
    elif torch.cuda.is_available():
        plan, placement = FULL, Placement(torch.device("cuda", 0), torch.bfloat16)
    else:
        print("bench.gpu: there is no CUDA device here; nothing was measured", file=sys.stderr)
        return NO_DEVICE
    device = look_around(placement.device)
    bound = bandwidth(placement.device, plan.copied)
    rows, engines = [], {}
    try:
        for size in plan.sizes:
            if options.only in (None, size.name):
                found, said = measure(plan, size, placement, bound)
                rows += found
                engines[size.name] = {name: str(value) for name, value in said.items()}
    except Failed as failure:
        print(failure, file=sys.stderr)
        return 1
    date = datetime.now(UTC).date().isoformat()
    measured = [size for size in plan.sizes if size.name in engines]
    plan = Plan(
        measured, plan.batches, plan.prompt, plan.new, plan.rounds, plan.budget, plan.copied
    )
    result = Result(date, device, plan, bound, engines, rows)
    text = render(result)
    print(f"\n{text}")
    if not options.cpu_check or options.results != RESULTS:
        write(result, text, options.results, result.stem)
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.gpu", description=__doc__)
    parser.add_argument("--only", choices=[SMALL.name, LARGE.name], help="one model alone")
    parser.add_argument("--results", type=Path, default=RESULTS, help="where the files are written")
    parser.add_argument(
        "--cpu-check",
        action="store_true",
        help="run all of this code with a tiny model on the CPU; its figures mean nothing",
    )
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
