"""The long form: every inmate, texts cut into chunks, cancels and resumes; a table how each runs.

python -m tests.zoo [name ...]
"""

import logging
import sys
import time
import warnings

import transformers

from tests.zoo.table import LONG, MODELS, PACKED, REFUSED, STACKED, STATIC
from tests.zoo.visit import LONG as TEXTS
from tests.zoo.visit import visit


def main(names: list[str]) -> int:
    transformers.logging.set_verbosity_error()
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")
    failed = 0
    begun = time.monotonic()
    print("| model | runs | texts equal to generate alone | why |\n|---|---|---|---|")
    for name in names or MODELS:
        found = visit(MODELS[name], TEXTS, long=True)
        expected = _expected(name)
        right = not found.wrong and found.batching in expected
        failed += not right
        equal = f"{found.texts - len(found.wrong)} of {found.texts}" if found.texts else ""
        mark = "" if right else f" WRONG, expected {' or '.join(expected)}"
        print(f"| {name} | {found.batching}{mark} | {equal} | {found.reason} |", flush=True)
        for line in found.wrong[:2]:
            print(f"    {line}")
    seconds = time.monotonic() - begun
    print(f"{len(names or MODELS)} models, {failed} not as expected, {seconds:.0f} s")
    return 1 if failed else 0


def _expected(name: str) -> list[str]:
    if name in LONG:
        return ["packed", "stacked", "static"]
    return [
        kind
        for kind, those in (
            ("packed", PACKED),
            ("stacked", STACKED),
            ("static", STATIC),
            ("refused", REFUSED),
        )
        if name in those
    ]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
