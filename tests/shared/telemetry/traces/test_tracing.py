"""Tracing that is off, or that nobody listens to, imports nothing; exporters are chosen by the endpoint."""

import subprocess
import sys

import pytest

from shared.domain.errors import ConfigError
from shared.settings import load_settings
from shared.telemetry.traces.exporting import exporter
from tests.ports import free_port

PROGRAM = """
import logging, os, sys, threading, time
# redis-py takes OpenTelemetry's metrics along where they are installed; this is about us.
sys.modules.update({"opentelemetry.metrics": None, "opentelemetry.sdk.metrics": None})
from api.app import create_app
from api.services import of
from api.http.tracing import trace_requests
from shared.settings import load_settings

said = []
class Keep(logging.Handler):
    def emit(self, record):
        said.append(record)
logging.getLogger("shared.telemetry.traces.collector").addHandler(Keep())
logging.getLogger("shared.telemetry.traces.collector").setLevel("INFO")
settings = load_settings()
app = create_app(settings)
trace_requests(app, settings)
import workers.app
until = time.monotonic() + 60
while settings.enable_tracing and not said and time.monotonic() < until:
    time.sleep(0.01)
app.test_client().get("/v1/jobs/job_x")
of(app).close()
wanted = ("opentelemetry", "grpc", "google")
brought = [name for name, found in sys.modules.items() if found and name.split(".")[0] in wanted]
print(len(said), len(brought))
"""


@pytest.mark.parametrize(("enabled", "lines"), [("false", 0), ("true", 1)])
def test_without_a_collector_nothing_is_imported(
    redis_url: str, prefix: str, enabled: str, lines: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    environment = {
        "PATH": "",
        "PYTHONPATH": ":".join(sys.path),
        "REDIS_URL": redis_url,
        "TRUTHGPT_KEY_PREFIX": prefix,
        "TRUTHGPT_STATE_DIR": str(tmp_path_factory.mktemp("state")),
        "ENABLE_TRACING": enabled,
        "OTLP_ENDPOINT": f"http://127.0.0.1:{free_port()}",
    }
    ran = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.split() == [str(lines), "0"]


@pytest.mark.parametrize(
    ("endpoint", "library", "where"),
    [
        ("http://localhost:4317", "grpc", "localhost:4317"),
        ("grpc://otlp:9000", "grpc", "otlp:9000"),
        ("grpcs://otlp", "grpc", "otlp:4317"),
        ("https://otlp:4317/", "grpc", "otlp:4317"),
        ("http://localhost:4318", "http", "http://localhost:4318/v1/traces"),
        ("https://otlp.example.com/in/traces", "http", "https://otlp.example.com/in/traces"),
        ("http://otlp:4317/v1/traces", "http", "http://otlp:4317/v1/traces"),
    ],
)
def test_the_endpoint_says_how_to_send(endpoint: str, library: str, where: str) -> None:
    made = exporter(endpoint)
    assert f".proto.{library}." in type(made).__module__
    assert vars(made)["_endpoint"] == where
    made.shutdown()


@pytest.mark.parametrize("endpoint", ["localhost:4317", "ftp://x", "http://user:secret@x:4317"])
def test_an_endpoint_that_is_none_is_refused(
    monkeypatch: pytest.MonkeyPatch, endpoint: str
) -> None:
    monkeypatch.setenv("OTLP_ENDPOINT", endpoint)
    with pytest.raises(ConfigError, match="OTLP_ENDPOINT"):
        load_settings()
