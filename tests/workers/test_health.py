"""The liveness probe: a report that is missing, fresh, or says that jobs are not consumed."""

import socket

import msgspec
import pytest

from shared.jobs import JobStore
from tests.conftest import free_port
from workers.health import main, verdict

HERE = socket.gethostname()


def report(store: JobStore, name: str, state: str, host: str = HERE) -> None:
    store.beat("m", name, msgspec.json.encode({"state": state, "host": host}), [])


def test_a_worker_that_says_nothing_is_not_alive(store: JobStore) -> None:
    report(store, "elsewhere", "ready", host="another-host")
    assert "no worker" in (verdict(store, "m", HERE) or "")


@pytest.mark.parametrize("state", ["starting", "ready", "busy"])
def test_a_worker_that_works_is_alive(store: JobStore, state: str) -> None:
    report(store, "w", state)
    assert verdict(store, "m", HERE) is None


@pytest.mark.parametrize("state", ["unhealthy", "failed"])
def test_a_worker_that_does_not_consume_is_not(store: JobStore, state: str) -> None:
    report(store, "w", state)
    assert state in (verdict(store, "m", HERE) or "")


def test_the_command(store: JobStore, redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRUTHGPT_KEY_PREFIX", store.keys.prefix)
    monkeypatch.setenv("REDIS_URL", redis_url)
    assert main(["m"]) == 1
    report(store, "w", "ready")
    assert main(["m"]) == 0
    assert main([]) == 2
    monkeypatch.setenv("REDIS_URL", f"redis://127.0.0.1:{free_port()}/0")
    assert main(["m"]) == 2
