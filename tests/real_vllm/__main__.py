"""`python -m tests.real_vllm`: the contract suite and the faults of a step against vLLM itself.

Its environment is made once, in some ten minutes and 3.5 GB; `VLLM_PYTHON` names an interpreter that has
vLLM already, and is taken as it is.
"""

import os
import subprocess
import sys
from pathlib import Path

from bench.environments import EnvironmentFailed, python_of
from bench.programs import REPOSITORY

PINS = Path(__file__).parent
MAKE_SECONDS = 3600
TESTS = ("tests/contracts/test_engines.py", "tests/real_vllm")
TEST_SECONDS = 1800
"""The first test waits until vLLM has compiled the model, which takes minutes on a busy machine."""
SECONDS = 3600


def main() -> int | str:
    """0 when all tests passed, else pytest's exit status or why there is no environment."""
    try:
        named = os.environ.get("VLLM_PYTHON")
        python = named or str(python_of("vllm", requirements=PINS, seconds=MAKE_SECONDS))
    except EnvironmentFailed as error:
        return str(error)
    options = ["-v", "-k", "vllm", "-p", "no:cacheprovider", "-o", f"timeout={TEST_SECONDS}"]
    command = [python, "-m", "pytest", *options, *TESTS]
    env = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    return subprocess.run(command, cwd=REPOSITORY, env=env, timeout=SECONDS).returncode


if __name__ == "__main__":
    sys.exit(main())
