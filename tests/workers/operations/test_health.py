"""What probes ask: a report that is missing, fresh, or says that jobs are not consumed; a rescuer's lock."""

import socket

import msgspec
import pytest

from shared.store.batches import Batches
from shared.store.jobs import JobStore
from workers.operations.health import batches_fault, rescue_fault, worker_fault

HERE = socket.gethostname()


def report(store: JobStore, state: str, host: str = HERE, *, draining: bool = False) -> None:
    said = msgspec.json.encode({"state": state, "host": host, "draining": draining})
    store.beat("m", f"w@{host}", said, [])


def test_a_worker_that_says_nothing_is_not_alive(store: JobStore) -> None:
    report(store, "ready", host="another-host")
    assert "no worker" in (worker_fault(store, "m", HERE) or "")


@pytest.mark.parametrize("state", ["starting", "ready", "busy"])
def test_a_worker_that_works_is_alive(store: JobStore, state: str) -> None:
    report(store, state)
    assert worker_fault(store, "m", HERE) is None


@pytest.mark.parametrize("state", ["unhealthy", "failed"])
def test_a_worker_that_does_not_consume_is_not(store: JobStore, state: str) -> None:
    report(store, state)
    assert state in (worker_fault(store, "m", HERE) or "")


@pytest.mark.parametrize("state", ["ready", "busy"])
def test_it_serves_once_its_model_is_loaded_and_until_it_drains(
    store: JobStore, state: str
) -> None:
    report(store, "starting")
    assert "starting" in (worker_fault(store, "m", HERE, serving=True) or "")
    report(store, state)
    assert worker_fault(store, "m", HERE, serving=True) is None
    report(store, state, draining=True)
    assert "draining" in (worker_fault(store, "m", HERE, serving=True) or "")
    assert worker_fault(store, "m", HERE) is None


def test_somebody_rescues_or_nobody_does(store: JobStore) -> None:
    assert "nobody" in (rescue_fault(store) or "")
    assert store.lock_rescue("rescuer", 30.0)
    assert rescue_fault(store) is None


def test_somebody_looks_for_batches_or_nobody_does(store: JobStore) -> None:
    assert "nobody" in (batches_fault(store) or "")
    assert Batches(store, 3600).claim(1.0) is None
    assert batches_fault(store) is None
