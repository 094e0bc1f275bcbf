"""What the host does about its imports, and about processes that are started from it."""

import gc
import subprocess
import sys

import pytest

from tests.conftest import PATIENCE
from workers.host.__main__ import kept_for_good


def test_what_is_kept_for_good_is_never_searched_for_garbage() -> None:
    before = gc.get_freeze_count()
    try:
        with pytest.raises(RuntimeError), kept_for_good():
            assert not gc.isenabled()
            raise RuntimeError
        assert gc.isenabled() and gc.get_freeze_count() > before
    finally:
        # Thawed, what all tests share would be searched by every collection of the tests to come.
        gc.freeze()


CHOICE = """
import multiprocessing
from workers.host.__main__ import start_processes_clean
start_processes_clean()
assert multiprocessing.get_start_method(allow_none=True) is None
multiprocessing.set_start_method("spawn")
assert multiprocessing.get_start_method() == "spawn"
"""


def test_a_model_may_choose_its_own_way_to_start_processes() -> None:
    done = subprocess.run(
        [sys.executable, "-c", CHOICE], capture_output=True, text=True, timeout=PATIENCE
    )
    assert (done.returncode, done.stderr) == (0, "")
