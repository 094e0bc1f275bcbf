"""The report that a worker sends with every beat; `GET /v1/models` and the health probes show it."""

import os
import socket

from shared.domain.errors import StoreUnavailable
from shared.store.jobs import JobStore
from workers.engine_host.events import EngineState
from workers.execution.executor import Executor
from workers.queue.doorbells import DEAF_BEATS, Doorbells

BEATS_A_LEASE = 3


def worker_report(
    store: JobStore,
    executor: Executor,
    doorbells: Doorbells,
    model: str,
    worker: str,
    *,
    stuck: bool,
) -> dict[str, object]:
    """The report as JSON values. `stuck`: jobs have waited for long while there was room here."""
    engine = executor.engine
    info = engine.info
    consuming = not doorbells.deaf or _consumed_by_others(store, model, worker)
    return {
        "state": _state(executor, doorbells, healthy=consuming and not stuck),
        "consuming": consuming,
        "heard_seconds": doorbells.heard_seconds,
        "detail": engine.detail,
        "active": executor.active,
        "capacity": info.capacity if info else 0,
        "engine": {"device": info.device, "dtype": info.dtype, **info.details} if info else {},
        "load_ms": info.load_ms if info else None,
        "restarts": engine.restarts,
        "breaker": executor.breaker.report(),
        "restart_seconds": engine.restart_seconds,
        "memory_bytes": engine.memory,
        "step_budget": engine.budget,
        "draining": engine.draining,
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "engine_pid": engine.pid,
    }


def _consumed_by_others(store: JobStore, model: str, worker: str) -> bool:
    """Whether another worker of the model takes its doorbells: ours may have gone there."""
    try:
        reports = store.status(model).workers
    except StoreUnavailable:
        # Nobody can tell now: it goes on waiting for its own doorbell.
        return False
    recently = DEAF_BEATS * store.lease / BEATS_A_LEASE
    heard = [report.get("heard_seconds") for name, report in reports.items() if name != worker]
    return any(seconds is not None and seconds <= recently for seconds in heard)


def _state(executor: Executor, doorbells: Doorbells, *, healthy: bool) -> str:
    """The engine's state; busy with jobs; unhealthy where doorbells do not come, or jobs wait, there is room
    and none is taken. It starts until its first doorbell has come, or until it has rung so often in vain that
    only another worker can have taken what it rang.
    """
    state = executor.engine.state.value
    if state != EngineState.READY:
        return state
    if not healthy:
        return "unhealthy"
    if doorbells.heard_seconds is None and not doorbells.deaf:
        return EngineState.STARTING.value
    return "busy" if executor.active else state
