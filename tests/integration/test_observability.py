"""One trace and one language of logs over all processes of a real server."""

import json
import re
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from itertools import count, pairwise
from typing import Any

import httpx
import pytest

from tests.conftest import eventually
from tests.integration.conftest import ECHO
from tests.integration.stack import TOKEN, Stack
from tests.otlp import HttpReceiver, Seen
from tests.receivers import SECRET
from tests.receivers import receiver as webhooks
from workers.queue.claimer import IDLE_SECONDS

CALLER = "a1" * 16
TRACEPARENT = f"00-{CALLER}-{'b2' * 8}-01"
AUTH = {"Authorization": f"Bearer {TOKEN}"}


@pytest.fixture(scope="module")
def receiver() -> Iterator[HttpReceiver]:
    made = HttpReceiver()
    yield made
    made.stop()


@pytest.fixture(scope="module")
def stack(make_stack: Callable[..., Stack], receiver: HttpReceiver) -> Stack:
    made = make_stack(
        ECHO,
        OTLP_ENDPOINT=receiver.endpoint,
        TRACE_MAX_PER_SECOND="1000",
        LOG_LEVEL="DEBUG",
        JOB_LEASE_SEC="1.5",
        WEBHOOK_HMAC_SECRET=SECRET,
        WEBHOOK_ALLOW_HOSTS="127.0.0.1",
        TRUTHGPT_TESTING="1",
    ).serve("echo")

    def traced() -> bool:
        post(made, "warm up")
        return bool(receiver.received.all("attempt")) and bool(receiver.received.all("POST"))

    eventually(traced, what="both processes have found the collector")
    return made


def post(stack: Stack, prompt: str, **options: Any) -> httpx.Response:
    """A job and its end; `options` go to the request's headers and params."""
    body = {"model": "echo", "prompt": prompt, "params": options.pop("params", {})}
    return httpx.post(f"{stack.url}/v1/infer", json=body, headers={**AUTH, **options}, timeout=60)


def only(spans: list[Seen]) -> Seen:
    assert len(spans) == 1, spans
    return spans[0]


def test_one_trace_from_the_caller_over_claim_and_batch_to_the_end(
    stack: Stack, receiver: HttpReceiver
) -> None:
    found = receiver.received
    answer = post(stack, "one two three", traceparent=TRACEPARENT, params={"step_ms": 5})
    job = answer.json()["id"]
    eventually(lambda: found.all("attempt", job=job) and found.all("POST", job=job))

    request, attempt = (
        only(found.all("POST /v1/infer", job=job)),
        only(found.all("attempt", job=job)),
    )
    assert request.trace_id == attempt.trace_id == CALLER
    assert request.parent_id == "b2" * 8 and attempt.parent_id == request.span_id
    assert (request.process, attempt.process) == ("truthgpt-api", "truthgpt-worker-echo")
    assert request.attributes["http.route"] == "/v1/infer"
    assert request.attributes["truthgpt.request.id"] == answer.headers["X-Request-ID"]
    assert attempt.attributes["truthgpt.state"] == "succeeded"

    phases = [span for span in found.trace(CALLER) if span.parent_id == attempt.span_id]
    phases.sort(key=lambda span: (span.began, span.ended))
    assert [span.name for span in phases] == ["admit", "prefill", "decode", "append"]
    assert all(one.ended == next_.began for one, next_ in pairwise(phases))
    queue = only([span for span in found.trace(CALLER) if span.name == "queue"])
    assert queue.parent_id == request.span_id and queue.ended == attempt.began
    scripts = [span for span in found.trace(CALLER) if span.name == "EVALSHA"]
    assert scripts and all(span.parent_id == request.span_id for span in scripts)

    eventually(lambda: [s for s in found.all("steps") if attempt.span_id in s.links])
    claim = only([span for span in found.all("claim") if attempt.span_id in span.links])
    assert claim.trace_id != CALLER and claim.span_id in attempt.links
    assert claim.attributes["truthgpt.jobs"] == 1
    steps = [span for span in found.all("steps") if attempt.span_id in span.links]
    assert sum(span.attributes["truthgpt.steps"] for span in steps) >= 3
    print(found.tree(CALLER))  # noqa: T201 - for who runs this with -s


def test_a_doorbell_is_answered_within_the_trace_that_rang(
    stack: Stack, receiver: HttpReceiver
) -> None:
    def answered() -> list[Seen]:
        return [span for span in receiver.received.all("run/truthgpt.drain") if span.parent_id]

    rang = float("-inf")

    def rung() -> bool:
        nonlocal rang
        if time.monotonic() - rang > IDLE_SECONDS + 1:
            # The drain before has left by now, so this one rings.
            post(stack, "x")
            rang = time.monotonic()
        return bool(answered())

    eventually(rung, what="a drain has ended whose doorbell a request rang")
    drain = answered()[0]

    def rings() -> list[Seen]:
        return [s for s in receiver.received.all() if s.span_id == drain.parent_id]

    eventually(rings)
    request = only(rings())
    assert request.name == "POST /v1/infer" and request.trace_id == drain.trace_id
    assert drain.process == "truthgpt-worker-echo"


def test_the_trace_leads_to_the_webhook(stack: Stack, receiver: HttpReceiver) -> None:
    trace = "c9" * 16
    with webhooks() as there:
        webhook = {"url": f"{there.url}/path-is-secret", "events": ["completed"]}
        answer = httpx.post(
            f"{stack.url}/v1/jobs",
            json={"model": "echo", "prompt": "x", "webhook": webhook},
            headers={**AUTH, "traceparent": f"00-{trace}-{'d4' * 8}-01"},
        )
        job = answer.json()["id"]
        eventually(lambda: receiver.received.all("deliver webhook", job=job))
        eventually(lambda: receiver.received.all("POST /v1/jobs", job=job))

    sent = only(receiver.received.all("deliver webhook", job=job))
    request = only(receiver.received.all("POST /v1/jobs", job=job))
    assert sent.trace_id == trace and sent.parent_id == request.span_id
    assert sent.process == "truthgpt-rescue" and not sent.failed
    assert sent.attributes["truthgpt.outcome"] == "delivered"
    assert "path-is-secret" not in repr(receiver.received.all())


def test_what_the_caller_does_not_keep_is_not_kept(stack: Stack, receiver: HttpReceiver) -> None:
    quiet = "c3" * 16
    assert post(stack, "x", traceparent=f"00-{quiet}-{'d4' * 8}-00").status_code == 200
    loud = "e5" * 16
    post(stack, "x", traceparent=f"00-{loud}-{'d4' * 8}-01")

    eventually(lambda: len(receiver.received.trace(loud)) >= 7)
    assert receiver.received.trace(quiet) == []


def lines(stack: Stack, name: str) -> list[dict[str, Any]]:
    return [json.loads(row) for row in stack.log(name).splitlines() if row.strip()]


def test_every_process_logs_one_json_object_a_line(stack: Stack) -> None:
    for name in ("api", "rescue", "worker-echo-1"):
        found = lines(stack, name)
        assert all(
            {"time", "level", "logger", "event", "process", "pid"} <= set(row) for row in found
        )
        mine = {name.removesuffix("-1"), name.partition("-")[0], "engine-echo"}
        assert {row["process"] for row in found} <= mine
    loggers = {row["logger"] for name in ("api", "worker-echo-1") for row in lines(stack, name)}
    assert {"gunicorn.error", "celery.apps.worker", "truthgpt.access", "workers.runtime"} <= loggers


def test_a_request_and_its_job_are_found_by_id_in_the_logs(stack: Stack) -> None:
    trace = "f6" * 16
    answer = post(stack, "a diary", traceparent=f"00-{trace}-{'d4' * 8}-01")
    request_id, job = answer.headers["X-Request-ID"], answer.json()["id"]

    def said(name: str, event: str) -> list[dict[str, Any]]:
        return [
            row
            for row in lines(stack, name)
            if row["event"] == event and row.get("request_id") == request_id
        ]

    eventually(lambda: said("worker-echo-1", "job ended") and said("api", "request"))
    [access], [ended] = said("api", "request"), said("worker-echo-1", "job ended")
    assert (access["method"], access["route"], access["status"]) == ("POST", "/v1/infer", 200)
    assert access["duration_ms"] > 0 and access["bytes"] == len(answer.content)
    assert access["tenant"] == ended["tenant"] == "default"
    assert access["job"] == ended["job"] == job and ended["model"] == "echo"
    assert access["trace_id"] == ended["trace_id"] == trace
    assert ended["attempt"] == 1 and ended["state"] == "succeeded"
    for name in ("api", "worker-echo-1"):
        assert "diary" not in stack.log(name)


def test_tickets_and_tokens_stay_out_of_logs_and_traces(
    stack: Stack, receiver: HttpReceiver
) -> None:
    job = httpx.post(
        f"{stack.url}/v1/jobs", json={"model": "echo", "prompt": "x"}, headers=AUTH
    ).json()
    ticket = re.search(r"ticket=([^&]+)", job["urls"]["events"])
    assert ticket is not None
    assert httpx.get(job["urls"]["events"], timeout=30).text.count("event: done") == 1

    def streamed() -> list[Seen]:
        return receiver.received.all("GET /v1/jobs/{job_id}/events")

    eventually(streamed)
    route = "/v1/jobs/{job_id}/events"
    rows = [row for row in lines(stack, "api") if row.get("route") == route and "bytes" in row]
    assert rows and rows[-1]["bytes"] > 100
    everything = stack.log("api") + stack.log("worker-echo-1") + repr(receiver.received.all())
    for secret in (ticket[1], TOKEN):
        assert secret not in everything


def retried(stack: Stack, trace: str, second: int) -> str:
    """A job of this trace whose worker was killed, and that worker number `second` has ended."""
    body = {"model": "echo", "prompt": "word " * 40, "params": {"step_ms": 100}}
    headers = {**AUTH, "traceparent": f"00-{trace}-{'d4' * 8}-01"}
    job: str = httpx.post(f"{stack.url}/v1/jobs", json=body, headers=headers).json()["id"]
    with stack.client() as client:
        eventually(lambda: client.get(job).status == "running")
        stack.kill(f"worker-echo-{second - 1}")
        stack.worker("echo", second)
        eventually(lambda: client.get(job).attempt == 2)
        assert client.get(job).wait(60).status == "succeeded"
    return job


def test_a_retry_on_another_worker_stays_in_the_trace(stack: Stack, receiver: HttpReceiver) -> None:
    found, trace = receiver.received, "b7" * 16
    for second in count(2):
        job = retried(stack, trace, second)
        spans = partial(found.all, "attempt", job=job, state="succeeded")
        requests = partial(found.all, "POST /v1/jobs", job=job)
        with suppress(pytest.fail.Exception):
            eventually(lambda spans=spans, requests=requests: spans() and requests(), 20)  # type: ignore[misc]
            break
        # Spans that could not be sent within two seconds are dropped, which a busy machine may bring about.
        assert second < 5, "three jobs have lost a span"
    attempt, request = only(spans()), only(requests())
    assert attempt.attributes["truthgpt.attempt"] == 2
    assert attempt.trace_id == request.trace_id == trace
    assert attempt.parent_id == request.span_id


def test_a_worker_that_stops_sends_its_last_spans(stack: Stack, receiver: HttpReceiver) -> None:
    job = post(stack, "the last").json()["id"]
    [name] = [name for name in stack.processes if name.startswith("worker-echo")]
    worker = stack.processes.pop(name)
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(30) == 0
    assert receiver.received.all("attempt", job=job)
