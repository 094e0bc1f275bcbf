"""`python -m bench.hostile [--against PATH] [--only WORDS]`: what attacks cost others, here and elsewhere.

Each row starts a server of its own. With `--against` both builds meet the same load of the machine, one
after the other in one run; the ratio is what is comparable on a machine that does other things too.
"""

import argparse
import os
from pathlib import Path
from types import ModuleType

from bench.hostile import cache_hits, members, prompts
from bench.hostile.row import Figure
from bench.programs import REPOSITORY

ROWS: tuple[ModuleType, ...] = (prompts, members, cache_hits)


def main() -> None:
    """Measure and print a table in Markdown."""
    options = _options()
    print(f"load {os.getloadavg()[0]:.2f} on {os.cpu_count()} cores\n")
    print("| attack | what | here | before | ratio |\n|---|---|---|---|---|")
    for row in ROWS:
        if options.only not in row.TITLE:
            continue
        before = row.measure(options.against) if options.against else []
        _print(row.measure(REPOSITORY), before)


def _print(here: list[Figure], before: list[Figure]) -> None:
    known = {figure.what: figure.value for figure in before}
    for figure in here:
        value = known.get(figure.what)
        other = "" if value is None else f"{value:,.0f} {figure.unit}"
        ratio = f"{figure.value / value:.3f}" if value else ""
        told = f"{figure.value:,.0f} {figure.unit}"
        print(f"| {figure.row} | {figure.what} | {told} | {other} | {ratio} |", flush=True)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.hostile", description=__doc__)
    parser.add_argument("--against", type=Path, help="another checkout, measured first")
    parser.add_argument("--only", default="", help="rows with these words in their title")
    return parser.parse_args()


if __name__ == "__main__":
    main()
