"""`python -m tests.stress`: the suite again and again on a busy machine, and what failed in each run.

A test that waits for a clock instead of a condition passes on an idle machine. Here a busy loop on every core
takes turns with the tests.
"""

import argparse
import multiprocessing
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


@contextmanager
def busy(loops: int) -> Iterator[None]:
    """So many processes that do nothing else than take processor time. They end with this one."""
    spinning = [multiprocessing.Process(target=_spin, daemon=True) for _ in range(loops)]
    for process in spinning:
        process.start()
    try:
        yield
    finally:
        for process in spinning:
            process.kill()
            process.join()


def _spin() -> None:
    parent = os.getppid()
    while os.getppid() == parent:
        for _ in range(1_000_000):
            pass


def failures(output: str) -> list[str]:
    """The tests that failed, or that broke before they began, as pytest's summary names them."""
    return re.findall(r"^(?:FAILED|ERROR) (\S+)", output, flags=re.MULTILINE)


def main() -> int:
    """Exit status 1 when a run did not pass."""
    parser = argparse.ArgumentParser(prog="python -m tests.stress", description=__doc__)
    parser.add_argument("--runs", type=int, default=10)
    parser.add_argument("--workers", default="3", help="processes that run tests, as for pytest -n")
    parser.add_argument("--loops", type=int, default=os.cpu_count() or 1, help="busy loops (cores)")
    parser.add_argument(
        "--out", type=Path, default=ROOT / ".bench" / "stress", help="folder of logs"
    )
    parser.add_argument("tests", nargs="*", default=["tests"], help="what pytest is given")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    fine = True
    for number in range(1, given.runs + 1):
        command = [sys.executable, "-m", "pytest", "-q", "-n", given.workers, "--dist", "loadfile"]
        log = given.out / f"run-{number}.log"
        began = time.monotonic()
        with busy(given.loops), log.open("w") as output:
            ran = subprocess.run(
                [*command, "--no-loadscope-reorder", *given.tests],
                cwd=ROOT,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        found = failures(log.read_text("utf-8", "replace"))
        fine = fine and ran.returncode == 0
        told = ", ".join(found) or ("none" if ran.returncode == 0 else f"status {ran.returncode}")
        took = time.monotonic() - began
        print(f"run {number}: {took:.0f} s, failures: {told} ({log})", flush=True)  # noqa: T201
    return 0 if fine else 1


if __name__ == "__main__":
    sys.exit(main())
