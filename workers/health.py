"""`python -m workers.health MODEL`: is this machine's worker of a model alive and consuming jobs?

For liveness probes. It asks the job store, not the process list: a worker whose heartbeat has stopped
has no report there, and one that lets jobs wait while it has room reports itself unhealthy.
"""

import socket
import sys

from shared.errors import JobsError
from shared.jobs import JobStore, connect
from shared.settings import load_settings

ALIVE = frozenset({"starting", "ready", "busy"})


def verdict(store: JobStore, model: str, host: str) -> str | None:
    """What is wrong with the host's workers of a model; None when one of them is well."""
    reports = [r for r in store.status(model).workers.values() if r.get("host") == host]
    if not reports:
        return f"no worker of {model} on {host} has given a sign of life"
    states = {str(report.get("state")) for report in reports}
    # An engine host that is being replaced is the worker's own cure; killing the worker undoes it.
    if states & ALIVE or any(report.get("draining") for report in reports):
        return None
    return f"the worker of {model} on {host} is {', '.join(sorted(states))}"


def main(arguments: list[str]) -> int:
    """Exit status 0 when well, 1 when not, 2 when it cannot be told."""
    if len(arguments) != 1:
        sys.stderr.write("usage: python -m workers.health MODEL\n")
        return 2
    try:
        settings = load_settings()
        redis = connect(settings.require_redis(), settings.redis_timeout)
        wrong = verdict(JobStore(redis, settings.key_prefix), arguments[0], socket.gethostname())
    except JobsError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    if wrong is not None:
        sys.stderr.write(f"{wrong}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
