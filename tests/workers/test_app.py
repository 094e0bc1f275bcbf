"""The Celery app's wiring: what begins before a broker has answered."""

import os
import subprocess
import sys
from pathlib import Path

from tests.conftest import RedisServer

BEGIN = """
import threading
from celery import signals
import workers.app
signals.worker_init.send(sender=None)
print(*(thread.name for thread in threading.enumerate()))
signals.worker_shutdown.send(sender=None)
"""


def test_jobs_are_rescued_though_no_broker_has_answered(
    redis_server: RedisServer, tmp_path: Path
) -> None:
    env = {**os.environ, "REDIS_URL": redis_server.url, "TRUTHGPT_STATE_DIR": str(tmp_path)}
    env.pop("TRUTHGPT_MODEL", None)
    # fmt: off
    done = subprocess.run(
        [sys.executable, "-c", BEGIN], env=env, capture_output=True, text=True, timeout=60, check=True
    )
    # fmt: on
    assert "rescuer" in done.stdout.split()
