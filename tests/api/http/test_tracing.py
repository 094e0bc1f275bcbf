"""Requests in traces: a real gunicorn under gevent over gRPC, and what is not kept costs Redis nothing."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from flask import Flask
from flask.testing import FlaskClient
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from api.http.observation import observe
from shared import context
from shared.telemetry.traces.request_spans import RequestSpans
from shared.telemetry.traces.sampling import Allowance, HeadSampler
from tests.api.conftest import PlayedWorker, Server
from tests.conftest import RedisServer, eventually
from tests.otlp import GrpcReceiver

ECHO = {"model": "echo", "prompt": "hello"}
CALLER = f"00-{'a1' * 16}-{'b2' * 8}-01"


@pytest.fixture
def receiver() -> Iterator[GrpcReceiver]:
    made = GrpcReceiver()
    yield made
    made.stop()


def test_a_real_server_sends_its_spans_over_grpc_and_goes_on_without_a_collector(
    catalogue: Path, redis_server: RedisServer, prefix: str, receiver: GrpcReceiver
) -> None:
    server = Server(
        catalogue,
        redis_server.url,
        prefix,
        OTLP_ENDPOINT=receiver.endpoint,
        TRACE_MAX_PER_SECOND="1000",
    ).start()
    found = receiver.received

    def traced() -> bool:
        server.request("GET", "/v1/jobs")
        return bool(found.all("GET /v1/jobs"))

    eventually(traced, what="a span came over gRPC")
    [span] = found.all("GET /v1/jobs")[:1]
    assert span.process == "truthgpt-api" and len(span.parent_id) == 0

    receiver.stop()
    answers = [server.request("GET", "/v1/jobs").status for _ in range(20)]
    server.stop()
    assert answers == [200] * 20


class Traced:
    def __init__(self, app: Flask) -> None:
        self.memory = InMemorySpanExporter()
        sampler = HeadSampler(1.0, Allowance(10**6), lambda: True, trusting=False)
        provider = TracerProvider(sampler=sampler, shutdown_on_exit=False)
        provider.add_span_processor(SimpleSpanProcessor(self.memory))
        observe(app, RequestSpans(provider.get_tracer("test")))


@pytest.fixture
def traced(app: Flask) -> Traced:
    return Traced(app)


def test_a_job_carries_on_the_trace_of_its_request(
    client: FlaskClient, traced: Traced, worker: PlayedWorker
) -> None:
    job = client.post("/v1/jobs", json=ECHO, headers={"traceparent": CALLER}, buffered=True).json
    client.post("/v1/jobs", json=ECHO, buffered=True)

    first, second = traced.memory.get_finished_spans()
    assert first.context is not None and second.context is not None
    assert f"{first.context.trace_id:032x}" == "a1" * 16
    assert first.context.trace_id != second.context.trace_id
    claim = worker.take()
    assert claim.id == job["id"]
    assert claim.traceparent == f"00-{'a1' * 16}-{first.context.span_id:016x}-01"
    assert first.attributes is not None
    assert first.attributes["truthgpt.job"] == job["id"]
    assert first.attributes["truthgpt.tenant"] == "default"


def test_a_trace_that_is_not_kept_goes_on_by_its_id_alone(
    client: FlaskClient, traced: Traced, worker: PlayedWorker
) -> None:
    quiet = CALLER[:-2] + "00"
    client.post("/v1/jobs", json=ECHO, headers={"traceparent": quiet}, buffered=True)

    assert traced.memory.get_finished_spans() == ()
    assert worker.take().traceparent.startswith(f"00-{'a1' * 16}-")


def test_without_tracing_a_job_carries_the_callers_own(
    client: FlaskClient, worker: PlayedWorker
) -> None:
    client.post("/v1/jobs", json=ECHO, headers={"traceparent": CALLER}, buffered=True)
    assert worker.take().traceparent == CALLER


def test_an_exception_is_a_failed_span(
    app: Flask, client: FlaskClient, traced: Traced, monkeypatch: pytest.MonkeyPatch
) -> None:
    app.config["PROPAGATE_EXCEPTIONS"] = False
    monkeypatch.setattr("api.intake.submission.submission_of", lambda *_: 1 / 0)
    client.post("/v1/jobs", json=ECHO, buffered=True)
    [span] = traced.memory.get_finished_spans()
    assert not span.status.is_ok
    assert span.attributes is not None and span.attributes["http.response.status_code"] == 500


def test_nothing_of_a_request_is_left_for_the_next(client: FlaskClient, traced: Traced) -> None:
    client.get("/v1/jobs/job_x", headers={"traceparent": CALLER}, buffered=True)
    assert dict(context.bound()) == {}
    client.get("/v1/jobs/job_x", buffered=True)
    first, second = traced.memory.get_finished_spans()
    assert first.context is not None and second.context is not None
    assert second.parent is None and second.context.trace_id != first.context.trace_id
