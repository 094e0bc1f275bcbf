"""The limit of open files goes up as far as it may, and never down."""

import subprocess
import sys

import pytest

SCRIPT = """
import resource
from shared.descriptors import allow
resource.setrlimit(resource.RLIMIT_NOFILE, ({soft}, {hard}))
print(allow({files}), resource.getrlimit(resource.RLIMIT_NOFILE)[0])
"""


@pytest.mark.parametrize(
    ("soft", "hard", "files", "allowed", "then"),
    [(256, 1024, 512, 512, 512), (256, 1024, 4096, 1024, 1024), (768, 1024, 512, 512, 768)],
)
def test_what_is_allowed(soft: int, hard: int, files: int, allowed: int, then: int) -> None:
    # A hard limit cannot be raised again, so it is another process that sinks its own.
    script = SCRIPT.format(soft=soft, hard=hard, files=files)
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert ran.stdout.split() == [str(allowed), str(then)], ran.stderr
