"""`python -m bench.gpu [--only SIZE] [--cpu-check]`: measure text generation on the first CUDA device."""

import argparse
import os
import sys

from bench.command import OFFLINE, RESULTS, parser, publish, run, today

os.environ.update(OFFLINE)

import torch

from bench.engines.driving import Failed
from bench.gpu.measure import measure
from bench.gpu.models import LARGE, SMALL, TINY
from bench.gpu.report import render
from bench.gpu.result import Plan, Result, look_around
from bench.gpu.roofline import bandwidth
from workers.engines.loading.placement import Placement

NO_DEVICE = 2
FULL = Plan([SMALL, LARGE], [1, 32, 128], prompt=128, new=128, rounds=2, budget=2048, copied=2**31)
CHECK = Plan([TINY], [1, 3], prompt=8, new=6, rounds=1, budget=64, copied=2**20)


def main() -> int:
    """0 when everything was measured, 2 where there is nothing to measure on."""
    options = _options()
    return run(lambda: _measure(options), Failed)


def _measure(options: argparse.Namespace) -> int:
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
    for size in plan.sizes:
        if options.only in (None, size.name):
            found, said = measure(plan, size, placement, bound)
            rows += found
            engines[size.name] = {name: str(value) for name, value in said.items()}
    measured = [size for size in plan.sizes if size.name in engines]
    plan = Plan(
        measured, plan.batches, plan.prompt, plan.new, plan.rounds, plan.budget, plan.copied
    )
    result = Result(today(), device, plan, bound, engines, rows)
    if options.cpu_check and options.results == RESULTS:
        print(f"\n{render(result)}")
    else:
        publish(result, render(result), options.results, result.stem)
    return 0


def _options() -> argparse.Namespace:
    options = parser("bench.gpu", __doc__)
    options.add_argument("--only", choices=[SMALL.name, LARGE.name], help="one model alone")
    options.add_argument(
        "--cpu-check",
        action="store_true",
        help="run all of this code with a tiny model on the CPU; its figures mean nothing",
    )
    return options.parse_args()


if __name__ == "__main__":
    sys.exit(main())
