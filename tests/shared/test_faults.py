"""Fault points: refused outside tests, and deadly at the right time."""

import signal
import subprocess
import sys

import pytest

from shared.domain.errors import ConfigError
from shared.faults import Faults

PROGRAM = """
import os
from shared.faults import faults
faults.arm(os.environ)
for turn in range(5):
    faults.reach("created")
    faults.reach("claimed")
    print(turn, flush=True)
"""


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        ({"TRUTHGPT_FAULT": "claimed"}, "tests only"),
        ({"TRUTHGPT_FAULT": "nowhere", "TRUTHGPT_TESTING": "1"}, "no POINT"),
        ({"TRUTHGPT_FAULT": "claimed:0", "TRUTHGPT_TESTING": "1"}, "no POINT"),
        ({"TRUTHGPT_FAULT": "claimed:x", "TRUTHGPT_TESTING": "1"}, "no POINT"),
    ],
)
def test_refused(environment: dict[str, str], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        Faults().arm(environment)


def test_the_third_time_kills() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env={"TRUTHGPT_FAULT": "claimed:3", "TRUTHGPT_TESTING": "1", "PYTHONPATH": "."},
        capture_output=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == -signal.SIGKILL
    assert done.stdout.split() == [b"0", b"1"]
