"""`python -m tests.chaos`: the campaign, and its table."""

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path

from tests.chaos.campaign import CASES, machine, run
from tests.chaos.row import table


def main() -> int:
    """Exit status 1 when a promise was broken."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small sizes, under three minutes")
    parser.add_argument("--only", default="", metavar="N,N", help="scenarios by number")
    parser.add_argument("--scale", type=float, default=1.0, help="share of the full sizes")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", type=Path, help="write the rows to this file as well")
    parser.add_argument("--keep", type=Path, help="folder for histories and logs")
    given = parser.parse_args()

    only = {int(number) for number in given.only.split(",") if number}
    chosen = [case for case in CASES if not only or case.number in only]
    if given.quick:
        sized = [(case, case.quick) for case in chosen if case.quick is not None]
    else:
        sized = [(case, case.scaled(given.scale)) for case in chosen]
    rows = run(sized, given.seed, given.keep)
    size = "quick" if given.quick else f"scale {given.scale:g}"
    print(f"{machine()}\n{size}, seed {given.seed}\n\n{table(rows)}")  # noqa: T201
    if given.json:
        document = {"machine": machine(), "size": size, "rows": [asdict(row) for row in rows]}
        given.json.write_text(json.dumps(document, indent=1), "utf-8")
    return int(any(row.failed for row in rows))


if __name__ == "__main__":
    sys.exit(main())
