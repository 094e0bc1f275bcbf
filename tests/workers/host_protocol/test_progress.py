"""What a host is at, read from another process while it cannot say anything."""

import os
import subprocess
import sys
import time

from tests.conftest import eventually
from workers.host_protocol.progress import Progress, new_page

HOLD = """
import sys, os, ctypes
from workers.host_protocol.progress import Progress
page = Progress(int(sys.argv[1]))
page.sign()
with page.call("job_1/2"):
    ctypes.PyDLL(None).sleep(3600)  # Keeps the interpreter.
"""


def test_calls_are_noted_and_forgotten() -> None:
    with new_page() as descriptor:
        page, reader = Progress(descriptor), Progress(descriptor)
    assert reader.read().pid == 0
    page.sign()
    before = time.monotonic()
    with page.call("job_1/1"):
        seen = reader.read()
        assert (seen.pid, seen.ticket) == (os.getpid(), "job_1/1") and seen.since >= before
        with page.call():
            assert reader.read().ticket == ""
    assert reader.read().since == 0


def test_a_ticket_of_any_length_leaves_the_page_whole() -> None:
    with new_page() as descriptor:
        page = Progress(descriptor)
    with page.call("ü" * 500):
        assert page.read().ticket.startswith("üü")


def test_a_process_that_lets_no_thread_run_is_seen_and_is_still_seen_when_it_is_dead() -> None:
    with new_page() as descriptor:
        reader = Progress(descriptor)
        child = subprocess.Popen(
            [sys.executable, "-c", HOLD, str(descriptor)], pass_fds=[descriptor]
        )
    try:
        eventually(lambda: reader.read().ticket == "job_1/2")
        assert reader.read().pid == child.pid
    finally:
        child.kill()
        child.wait()
    assert reader.read().ticket == "job_1/2" and reader.read().since > 0
