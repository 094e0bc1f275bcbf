import re
import threading
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import msgspec
import pytest
from flask.testing import FlaskClient

from api.services import of
from shared.domain.schemas import Job
from shared.domain.states import JobState
from shared.store.jobs import JobStore
from tests.api.conftest import PlayedWorker, Rings
from tests.conftest import PATIENCE, eventually

ECHO = {"model": "echo", "prompt": "hello"}
UNKNOWN = "job_" + "0" * 32
Meanwhile = Callable[[Callable[[], object]], None]


def make(client: FlaskClient, **fields: Any) -> dict[str, Any]:
    response = client.post("/v1/jobs", json={**ECHO, **fields})
    assert response.status_code == 202, response.json
    made: dict[str, Any] = response.json
    return made


def test_a_new_job_answers_202_with_the_job_and_its_location(client: FlaskClient) -> None:
    response = client.post("/v1/jobs", json={**ECHO, "metadata": {"order": "7"}})

    job = Job.model_validate(response.json)
    assert response.status_code == 202
    assert response.headers["Location"] == job.urls.get == f"http://localhost/v1/jobs/{job.id}"
    assert (job.status, job.model, job.attempt, job.queue_position) == ("queued", "echo", 0, 0)
    assert job.metadata == {"order": "7"}
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", job.created_at)
    assert client.get(f"/v1/jobs/{job.id}").json["id"] == job.id


def test_a_new_job_knows_its_place_as_well_as_one_that_is_read(
    client: FlaskClient, store: JobStore
) -> None:
    for _ in range(3):
        make(client)
    now_ms = int(time.time() * 1000)
    store.redis.hset(
        store.keys("queue", "echo"),
        mapping={"drained": 100, "drain_ms": 50_000, "drain_from": 0, "drain_seen": now_ms},
    )

    made = make(client)
    read: dict[str, Any] = client.get(f"/v1/jobs/{made['id']}").json

    assert made["queue_position"] == read["queue_position"] == 3
    apart = datetime.fromisoformat(read.pop("estimated_start")) - datetime.fromisoformat(
        made.pop("estimated_start")
    )
    assert timedelta(0) <= apart < timedelta(seconds=PATIENCE)
    assert {**made, "urls": 0} == {**read, "urls": 0}


def test_the_doorbell_rings_once_for_jobs_that_wait(client: FlaskClient, rings: Rings) -> None:
    make(client)
    make(client)

    eventually(lambda: rings.models, what="a ring")
    of(client.application).notifier.stop()
    assert rings.models == ["echo"]


def test_a_failing_ring_does_not_fail_the_request(client: FlaskClient) -> None:
    def broken(model: str) -> None:
        raise ConnectionError("no broker")

    of(client.application).notifier._ring = broken

    assert make(client)["status"] == "queued"


def test_the_worker_gets_content_params_seed_and_trace(
    client: FlaskClient, worker: PlayedWorker
) -> None:
    trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    made = client.post(
        "/v1/jobs",
        json={"model": "llama", "prompt": "x", "params": {"temperature": 1, "seed": 5}},
        headers={"traceparent": trace, "X-Request-ID": "mine-1"},
    )
    assert made.status_code == 202, made.json

    claim = worker.take("llama")

    sent = msgspec.json.decode(claim.request)
    assert sent["content"] == "x"
    assert sent["seed"] == 5
    assert sent["params"]["temperature"] == 1
    assert sent["params"] == {"temperature": 1, "seed": 5}, "what an engine assumes is left out"
    assert (claim.traceparent, claim.request_id) == (trace, "mine-1")


def test_a_job_without_a_seed_gets_a_random_one(client: FlaskClient, worker: PlayedWorker) -> None:
    for _ in range(2):
        client.post(
            "/v1/jobs", json={"model": "llama", "prompt": "x", "params": {"temperature": 1.0}}
        )

    seeds = {msgspec.json.decode(worker.take("llama").request)["seed"] for _ in range(2)}

    assert len(seeds) == 2
    assert all(0 <= seed < 2**63 for seed in seeds)


@pytest.mark.parametrize(
    "trace", ["", "junk", "00-" + "0" * 32 + "-00f067aa0ba902b7-01", "ff-" + "1" * 32 + "-1-01"]
)
def test_a_malformed_traceparent_is_left_behind(
    client: FlaskClient, worker: PlayedWorker, trace: str
) -> None:
    client.post("/v1/jobs", json=ECHO, headers={"traceparent": trace})

    assert worker.take().traceparent == ""


def test_prefer_wait_answers_200_with_the_finished_job(
    client: FlaskClient, worker: PlayedWorker, meanwhile: Meanwhile
) -> None:
    meanwhile(lambda: worker.serve("hel", "lo"))

    response = client.post(
        "/v1/jobs", json=ECHO, headers={"Prefer": 'respond-async, wait="10";x=1, wait=1'}
    )

    assert response.status_code == 200
    assert response.headers["Preference-Applied"] == "wait=10"
    job = Job.model_validate(response.json)
    assert job.status == "succeeded"
    assert job.output == {"text": "hello", "finish_reason": "stop"}
    assert job.usage is not None and job.usage.completion_tokens == 2


def test_prefer_wait_answers_202_when_the_job_takes_longer(client: FlaskClient) -> None:
    started = time.monotonic()

    response = client.post("/v1/jobs", json=ECHO, headers={"Prefer": "wait=1"})

    assert response.status_code == 202
    assert time.monotonic() - started > 0.9
    assert response.headers["Preference-Applied"] == "wait=1"
    assert response.json["status"] == "queued"


def test_prefer_wait_is_at_most_60(
    client: FlaskClient, worker: PlayedWorker, meanwhile: Meanwhile
) -> None:
    meanwhile(lambda: worker.serve("x"))

    response = client.post("/v1/jobs", json=ECHO, headers={"Prefer": "wait=99999"})

    assert response.headers["Preference-Applied"] == "wait=60"


def test_an_idempotency_key_makes_one_job(client: FlaskClient) -> None:
    key = {"Idempotency-Key": "order 4711"}

    first = client.post("/v1/jobs", json=ECHO, headers=key)
    again = client.post("/v1/jobs", json=dict(reversed(ECHO.items())), headers=key)
    other = client.post("/v1/jobs", json={**ECHO, "prompt": "else"}, headers=key)

    assert (first.status_code, again.status_code, other.status_code) == (202, 200, 422)
    assert "Idempotent-Replayed" not in first.headers
    assert again.headers["Idempotent-Replayed"] == "true"
    assert again.json["id"] == first.json["id"]
    assert again.headers["Location"].endswith(first.json["id"])
    assert other.json["code"] == "idempotency_mismatch"


def test_a_repeated_request_may_wait_too(
    client: FlaskClient, worker: PlayedWorker, meanwhile: Meanwhile
) -> None:
    headers = {"Idempotency-Key": "k", "Prefer": "wait=10"}
    first = client.post("/v1/jobs", json=ECHO, headers={"Idempotency-Key": "k"}).json
    meanwhile(lambda: worker.serve("x"))

    again = client.post("/v1/jobs", json=ECHO, headers=headers)

    assert again.json["id"] == first["id"]
    assert again.json["status"] == "succeeded"


def test_a_full_queue_answers_503(client: FlaskClient) -> None:
    make(client, model="full")

    response = client.post("/v1/jobs", json={"model": "full", "prompt": "x"})

    assert response.status_code == 503
    assert response.json["code"] == "queue_full"
    assert int(response.headers["Retry-After"]) > 0


def test_get_holds_the_answer_until_the_end(
    client: FlaskClient, worker: PlayedWorker, meanwhile: Meanwhile
) -> None:
    job = make(client)
    meanwhile(lambda: worker.serve("x"))

    response = client.get(f"/v1/jobs/{job['id']}?wait=10")

    assert response.json["status"] == "succeeded"
    assert "Retry-After" not in response.headers


def test_get_says_when_to_look_again(client: FlaskClient) -> None:
    job = make(client)

    response = client.get(f"/v1/jobs/{job['id']}?wait=0.1")

    assert response.json["status"] == "queued"
    assert response.headers["Retry-After"] == "1"


def test_a_held_answer_is_given_when_the_server_drains(client: FlaskClient) -> None:
    job = make(client)
    alive = threading.Event()
    of(client.application).lifecycle.alive = lambda: not alive.is_set()
    threading.Timer(0.2, alive.set).start()
    started = time.monotonic()

    response = client.get(f"/v1/jobs/{job['id']}?wait=30")

    assert response.status_code == 200
    assert time.monotonic() - started < 30, "the drain ended the wait"


def test_the_fast_document_equals_the_schema(
    client: FlaskClient, worker: PlayedWorker, store: JobStore
) -> None:
    made = [make(client, metadata={"a": "ü\n"}), make(client), make(client)]
    worker.serve("a\nb")
    worker.fail("engine_error", "no\nluck")

    for job in made:
        served = client.get(f"/v1/jobs/{job['id']}").json
        assert Job.model_validate(served).urls is not None
        del served["urls"]
        expected = store.get(job["id"]).job().model_dump(mode="json", exclude={"urls"})
        assert served == expected
        assert list(served) == list(expected)


def test_the_listing_is_newest_first_and_paged(client: FlaskClient) -> None:
    made = [make(client)["id"] for _ in range(5)]
    made.sort(reverse=True)

    first = client.get("/v1/jobs?limit=3").json
    second = client.get(f"/v1/jobs?limit=3&cursor={first['next_cursor']}").json

    assert [job["id"] for job in first["data"] + second["data"]] == made
    assert second["next_cursor"] is None


def test_the_listing_filters(client: FlaskClient, worker: PlayedWorker) -> None:
    make(client)
    other = make(client, model="own")
    done = worker.serve("x")

    succeeded = client.get("/v1/jobs?status=succeeded").json["data"]
    own = client.get("/v1/jobs?model=own").json["data"]

    assert [job["id"] for job in succeeded] == [done.id]
    assert [job["id"] for job in own] == [other["id"]]


def test_a_waiting_job_is_canceled_at_once(client: FlaskClient) -> None:
    job = make(client)

    first = client.post(f"/v1/jobs/{job['id']}/cancel")
    again = client.post(f"/v1/jobs/{job['id']}/cancel")

    assert (first.status_code, again.status_code) == (200, 200)
    assert first.json["status"] == "canceled"
    assert first.json["error"]["code"] == "job_canceled"


def test_a_running_job_is_canceled_by_its_worker(client: FlaskClient, worker: PlayedWorker) -> None:
    job = make(client)
    claim = worker.take()

    asked = client.post(f"/v1/jobs/{job['id']}/cancel")
    worker.end(claim, JobState.CANCELED)
    done = client.post(f"/v1/jobs/{job['id']}/cancel")

    assert (asked.status_code, asked.json["status"]) == (202, "running")
    assert asked.json["cancel_requested"] is True
    assert (done.status_code, done.json["status"]) == (200, "canceled")


def test_only_an_ended_job_is_deleted(client: FlaskClient, worker: PlayedWorker) -> None:
    job = make(client)

    alive = client.delete(f"/v1/jobs/{job['id']}")
    worker.serve("x")
    ended = client.delete(f"/v1/jobs/{job['id']}")
    again = client.delete(f"/v1/jobs/{job['id']}")

    assert (alive.status_code, alive.json["code"]) == (409, "job_not_terminal")
    assert (ended.status_code, ended.data) == (204, b"")
    assert (again.status_code, again.json["code"]) == (404, "job_not_found")
    assert client.get("/v1/jobs").json["data"] == []


@pytest.mark.parametrize("job_id", [UNKNOWN, "x", "job_", "job_" + "G" * 32, "é" * 40])
@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", ""), ("POST", "/cancel"), ("DELETE", ""), ("GET", "/events"), ("GET", "?wait=3")],
)
def test_an_unknown_job_is_404(client: FlaskClient, method: str, path: str, job_id: str) -> None:
    response = client.open(f"/v1/jobs/{job_id}{path}", method=method)

    assert response.status_code == 404
    assert response.json["code"] == "job_not_found"


def test_a_job_of_another_tenant_looks_like_an_unknown_one(
    client: FlaskClient, store: JobStore
) -> None:
    from shared.domain.records import NewJob, new_job_id

    theirs = new_job_id()
    store.create(NewJob(theirs, "echo", "somebody", b"{}"), max_queued=10)

    def answer(job_id: str) -> str:
        response = client.get(f"/v1/jobs/{job_id}", headers={"X-Request-ID": "same"})
        assert response.status_code == 404
        return str(response.get_data(as_text=True)).replace(job_id, "ID")

    assert answer(theirs) == answer(UNKNOWN)
    assert client.get("/v1/jobs").json["data"] == []
