"""Variables of other programs never reach the libraries that would heed them."""

import json
import os
import re
import sysconfig
from pathlib import Path

import pytest

from shared.broker import make_celery
from shared.settings import load_settings
from shared.surroundings import OURS, foreign, services, shed
from tests.foreign import SURROUNDINGS

READ = re.compile(
    r"""os\.(?:environ(?:\.get|\.pop)?|getenv)\s*[(\[]\s*["']([A-Za-z_0-9]+)["']"""
    r"""|(?:_int_env|_float_env)\(["'](\w+)["']"""
    r"""|environment_key = ["'](\w+)["']"""
)
HARMLESS = {
    # The machine's, the user's and the terminal's.
    "COMSPEC", "HOME", "ITERM_PROFILE", "LISTEN_FDS", "LISTEN_PID", "NO_COLOR", "NOTIFY_SOCKET",
    "NUMBER_OF_PROCESSORS", "PATH", "PWD", "PYTHONSTARTUP", "PYTHONTRACEMALLOC", "SHELL", "TERM",
    "XDG_RUNTIME_DIR",
    # Set by the libraries for themselves, or read for pools, brokers, tools and tests that are not used here.
    "DJANGO_PROJECT_DIR", "MP_MAIN_FILE", "MULTIPROCESSING_FORKING_DISABLE", "NO_WORKER", "NOSETPS",
    "PUBSUB_EMULATOR_HOST", "SERVER_SOFTWARE", "SL_API_KEY", "SL_USERNAME", "SLMQ_ACCOUNT", "SLMQ_HOST",
    "SLMQ_PORT", "SLMQ_SECURE", "TEST_BROKER", "WORKER_LOGLEVEL", "YOURAPPLICATION_SETTINGS",
    "_MP_FORK_LOGFILE_", "_MP_FORK_LOGFORMAT_", "_MP_FORK_LOGLEVEL_",
    # Compiled modules of gevent, or the same in Python.
    "PURE_PYTHON",
    # Of use only to a pickling worker that root runs; ours reads JSON alone.
    "C_FORCE_ROOT",
    # Settings of ours, whatever else reads them.
    "PORT", "WEB_CONCURRENCY",
}  # fmt: skip


@pytest.mark.parametrize(
    "package", ["celery", "kombu", "billiard", "gunicorn", "flower", "gevent", "flask"]
)
def test_whatever_a_library_reads_is_known(package: str) -> None:
    installed = Path(sysconfig.get_path("platlib")) / package
    read = {
        next(filter(None, match.groups()))
        for file in installed.rglob("*.py")
        if "tests" not in file.parts and "testing" not in file.parts
        for match in READ.finditer(file.read_text("utf-8"))
    }
    assert read, "this library reads nothing, or the expression finds nothing"
    assert read - HARMLESS - set(foreign(dict.fromkeys(read, "x"))) - OURS == set()


def test_ours_and_what_kubernetes_writes_stay() -> None:
    ours = {
        **{str(field.alias): "x" for field in type(load_settings()).model_fields.values()},
        "HOST": "x",
        "WEB_CONCURRENCY": "2",
        "FLOWER_ADDRESS": "x",
        "OTEL_EXPORTER_OTLP_HEADERS": "x",
        "OTEL_RESOURCE_ATTRIBUTES": "x",
        "FLOWER_SERVICE_HOST": "10.0.0.1",
        "FLOWER_PORT_5555_TCP_ADDR": "10.0.0.1",
        "OTEL_COLLECTOR_PORT": "tcp://10.0.0.1:4317",
    }
    assert foreign(ours) == []


@pytest.mark.parametrize("name", ["PORT", "FLOWER_PORT", "METRICS_PORT"])
def test_a_services_address_is_no_port(name: str) -> None:
    assert services({name: "tcp://10.0.0.1:80"}) == services({name: "UDP://[::1]:80"}) == [name]
    assert services({name: "80", "REDIS_PORT": "tcp://10.0.0.1:6379"}) == []


def test_what_is_not_heeded_is_named_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in SURROUNDINGS.items():
        monkeypatch.setenv(name, value)
    shed("api")
    shed("api")
    [line] = capsys.readouterr().err.splitlines()
    told = json.loads(line)
    assert {"time", "level", "logger", "event", "process", "pid"} == set(told)
    assert "CELERY_BROKER_URL" in told["event"] and "GUNICORN_CMD_ARGS" in told["event"]
    assert "FLOWER_PORT" not in os.environ and os.environ["REDIS_PORT"]


def test_the_broker_is_ours_whatever_celery_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = load_settings(redis_url="redis://127.0.0.1:7/1")
    for name, value in SURROUNDINGS.items():
        monkeypatch.setenv(name, value)
    app = make_celery(settings)
    urls = {app.conf.broker_url, app.conf.broker_read_url, app.conf.broker_write_url}
    assert urls == {settings.redis_url}
    assert app.conf.result_backend is None
    assert type(app.loader).__name__ == "AppLoader"
