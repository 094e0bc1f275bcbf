"""Random streams of requests are answered as gunicorn's own worker and Flask answer them.

The long form: `python -m tests.api.fuzz redis://… --streams 100000 --seed 2`.
"""

import subprocess
import sys

from tests.conftest import RedisServer


def test_random_streams_are_answered_as_by_gunicorns_own_worker(redis_server: RedisServer) -> None:
    command = [sys.executable, "-m", "tests.api.fuzz", redis_server.url, "--streams", "200"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=240)

    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.startswith("200 streams alike: ")
    for kind in ("200", "202", "401", "415", "422"):
        assert f"HTTP/1.1 {kind} " in done.stdout, "the streams do not reach what they are to test"
