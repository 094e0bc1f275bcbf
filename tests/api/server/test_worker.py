"""gunicorn stays as it is released."""

import subprocess
import sys


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
