"""Ports of tests: each has one owner among the processes that run tests at the same time."""

import subprocess
import sys

from tests.ports import free_port, reserve

ASK = "import sys; from tests.ports import reserve; print(reserve(int(sys.argv[1])))"


def test_a_port_is_given_to_nobody_else_while_its_process_lives() -> None:
    port = free_port()
    assert not reserve(port), "in the process that has it"
    asked = subprocess.run(
        [sys.executable, "-c", ASK, str(port)], capture_output=True, text=True, check=True
    )
    assert asked.stdout == "False\n", "in another process"
