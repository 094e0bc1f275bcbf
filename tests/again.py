"""`python -m tests.again`: what failed in the last run, once more and alone, and which of it was flaky.

CI takes this second look so that one test of thousands that raced a clock on a busy machine stops no merge. A
test that passes here is named, and is a bug all the same: `make stress` shows it on a busy machine.
"""

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FAILED = Path(".pytest_cache/v/cache/lastfailed")
"""Where pytest keeps the ids of the tests that failed."""
MOST = 3
"""Failed tests that may have been bad luck; where there are more, something is broken."""


def failed(root: Path) -> list[str]:
    """Ids of the tests that failed in the last run in this folder, none where it was not run."""
    kept = root / FAILED
    return sorted(json.loads(kept.read_text("utf-8"))) if kept.exists() else []


def passes(root: Path, test: str) -> bool:
    """Whether this test passes, in a process of its own."""
    return subprocess.run([sys.executable, "-m", "pytest", "-q", test], cwd=root).returncode == 0


def again(root: Path) -> tuple[int, str]:
    """The exit status, and what to say: 0 only where there were failures, few, and each passes now."""
    tests = failed(root)
    if not 0 < len(tests) <= MOST:
        return 1, f"{len(tests)} tests failed; 1 to {MOST} are run again"
    still = [test for test in tests if not passes(root, test)]
    if still:
        return 1, "FAILED TWICE: " + _listed(still)
    return 0, "FLAKY, mend these (they failed, and passed alone): " + _listed(tests)


def _listed(tests: Sequence[str]) -> str:
    return ", ".join(tests)


def main() -> int:
    """Exit status 1 unless all that failed passes now."""
    status, told = again(ROOT)
    print(told)  # noqa: T201
    return status


if __name__ == "__main__":
    sys.exit(main())
