"""gunicorn stays as it is released, and a connection that breaks is closed."""

import logging
import ssl
import subprocess
import sys
from typing import Any

import pytest
from gunicorn.config import Config

from api.server.worker import Worker


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


class Breaking:
    """A client's socket whose first read fails."""

    def __init__(self, error: OSError) -> None:
        self.error = error
        self.closed = False
        self.send = self.settimeout = self.gettimeout = self.setblocking = lambda *_: None

    def recv(self, *_: Any) -> bytes:
        raise self.error

    def close(self) -> None:
        self.closed = True

    def getsockname(self) -> tuple[str, int]:
        return ("127.0.0.1", 8000)


@pytest.mark.parametrize(
    ("error", "logged"),
    [
        (ConnectionResetError(104, "reset"), 0),
        (ssl.SSLEOFError(8, "EOF occurred in violation of protocol"), 0),
        (OSError(5, "Input/output error"), 1),
    ],
)
def test_only_what_a_client_cannot_cause_by_leaving_is_logged(
    error: OSError, logged: int, caplog: pytest.LogCaptureFixture
) -> None:
    worker: Any = Worker.__new__(Worker)
    worker.cfg, worker.log, worker._connections = Config(), logging.getLogger(__name__), {}
    client = Breaking(error)

    worker.handle(client, client, ("127.0.0.1", 5000))

    assert client.closed and not worker._connections
    assert len(caplog.records) == logged
