"""A Celery worker of `workers.app`: `python -m workers NODE THREADS QUEUE...`.

Celery's own command would start the same worker, but imports every subcommand and plug-in first, Flower and
its web server among them, which takes longer than all that the worker itself needs.
"""

import os
import sys
from socket import gethostname
from typing import TYPE_CHECKING

from shared.surroundings import shed

if TYPE_CHECKING:
    from celery.apps.worker import Worker


def main(node: str, threads: str, *queues: str) -> int:
    """Work until told to stop. Returns the exit status."""
    # Before Celery is loaded, which takes its broker, its loader and its signals from them.
    shed("worker")
    if os.environ.get("TRUTHGPT_MODEL"):
        from workers.engine_host.process import spawn_ahead

        spawn_ahead()
    from workers.app import app

    worker: Worker = app.Worker(
        hostname=f"{node}@{gethostname()}",
        pool_cls="threads",
        concurrency=int(threads),
        queues=list(queues),
        # For Flower; no chatter between workers, which grows with the square of their number.
        task_events=True,
        without_gossip=True,
        without_mingle=True,
        quiet=True,
    )
    worker.start()
    return int(worker.exitcode or 0)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
