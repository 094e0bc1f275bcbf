"""The worker's deadlines for connections, and gunicorn as it is released."""

import subprocess
import sys
from typing import Any

from api.server.worker import HEAD_SECONDS, Connection

FIRST = 1000.0


class Clock:
    """Stands in for `time` in the worker's module."""

    def __init__(self) -> None:
        self.now = FIRST

    def monotonic(self) -> float:
        return self.now


class Sock:
    """A socket that has as much to give as is asked for."""

    def sendall(self, data: bytes) -> None: ...

    def send(self, data: bytes) -> int:
        return len(data)

    def settimeout(self, seconds: float | None) -> None: ...

    def recv(self, size: int) -> bytes:
        return b"a" * size

    def fileno(self) -> int:
        return 7


def connected(monkeypatch: Any) -> tuple[Connection, Clock]:
    clock = Clock()
    monkeypatch.setattr("api.server.worker.time", clock)
    return Connection(Sock()), clock


def test_a_connection_may_idle_for_as_long_as_is_set_and_no_longer(monkeypatch: Any) -> None:
    connection, clock = connected(monkeypatch)
    with connection:
        assert connection.idle
        assert not connection.overdue(clock.now + 600, keepalive=600)
        assert connection.overdue(clock.now + 601, keepalive=600)


def test_a_head_that_has_begun_has_a_deadline_of_its_own(monkeypatch: Any) -> None:
    connection, clock = connected(monkeypatch)
    with connection:
        clock.now += 500
        connection.recv(1)
        clock.now += HEAD_SECONDS - 1
        connection.recv(1)

        assert not connection.idle
        assert not connection.overdue(clock.now, keepalive=600)
        assert connection.overdue(clock.now + 2, keepalive=600), "however it drips"


def test_while_a_request_is_answered_nothing_is_due(monkeypatch: Any) -> None:
    connection, clock = connected(monkeypatch)
    with connection:
        connection.recv(1)
    connection.recv(1)

    assert not connection.idle
    assert not connection.overdue(clock.now + 10_000, keepalive=5)
    with connection:
        assert connection.idle, "the next request has time of its own"
        assert not connection.overdue(clock.now + 5, keepalive=5)


def test_all_else_is_the_sockets(monkeypatch: Any) -> None:
    assert connected(monkeypatch)[0].fileno() == 7


def test_gunicorns_modules_are_as_released() -> None:
    """What its modules hold before this server is loaded, they hold after it."""
    program = """
import importlib, pkgutil, sys
from gevent import monkey
monkey.patch_all()
import gunicorn
for name in ("http", "http2.stream", "workers.ggevent", "arbiter", "app.wsgiapp"):
    importlib.import_module(f"gunicorn.{name}")
def held():
    found = {}
    for name, module in list(sys.modules.items()):
        if name.split(".")[0] == "gunicorn":
            for key, value in vars(module).items():
                found[name, key] = value
                if isinstance(value, type) and value.__module__.startswith("gunicorn"):
                    found.update({(name, key, member): each for member, each in vars(value).items()})
    return found
before = held()
import api.server.worker, api.server.access_log, api.app, api.server.gunicorn_conf
after = held()
changed = [key for key, value in before.items() if after.get(key) is not value]
print(len(before) > 500, changed)
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=60
    )

    assert done.stdout.strip() == "True []", done.stdout + done.stderr
