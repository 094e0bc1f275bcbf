"""Probes whether this machine's worker of a model is alive and consumes jobs, and whether anybody rescues,
or works on batches.

The job store is asked, not the process list: a worker whose heartbeat has stopped has no report there,
and one that lets jobs wait while it has room reports itself unhealthy.
"""

from shared.store.batches import worked_lately
from shared.store.jobs import JobStore

ALIVE = frozenset({"starting", "ready", "busy"})
SERVING = frozenset({"ready", "busy"})


def worker_fault(store: JobStore, model: str, host: str, *, serving: bool = False) -> str | None:
    """What is wrong with the host's workers of a model; None when one of them is well.

    `serving` asks for more: a model that is loaded, and no drain. Raises `StoreUnavailable`.
    """
    reports = [r for r in store.status(model).workers.values() if r.get("host") == host]
    if not reports:
        return f"no worker of {model} on {host} has given a sign of life"
    states = {str(report.get("state")) for report in reports}
    deaf = all(report.get("consuming") is False for report in reports)
    draining = any(report.get("draining") for report in reports)
    if serving and states & SERVING and not draining:
        return None
    # An engine host that is being replaced is the worker's own cure; killing the worker undoes it.
    if not serving and (states & ALIVE or draining):
        return None
    what = "draining" if serving and draining else ", ".join(sorted(states))
    why = ": it takes no doorbells from the broker" if deaf else ""
    return f"the worker of {model} on {host} is {what}{why}"


def rescue_fault(store: JobStore) -> str | None:
    """Says so when no rescuer, here or elsewhere, has worked for some seconds.

    Raises `StoreUnavailable`.
    """
    return None if store.rescued_lately() else "nobody has rescued for some seconds"


def batches_fault(store: JobStore) -> str | None:
    """Says so when nobody, here or elsewhere, has looked for batches for some time.

    Raises `StoreUnavailable`.
    """
    return None if worked_lately(store) else "nobody has looked for batches for a minute"
