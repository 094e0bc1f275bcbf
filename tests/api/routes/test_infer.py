from collections.abc import Callable

import pytest
from flask.testing import FlaskClient

from api.services import of
from shared.domain.errors import PROBLEMS, StoreUnavailable
from shared.domain.schemas import Job
from shared.domain.states import JobState
from shared.store.jobs import JobStore
from tests.api.conftest import PlayedWorker

ECHO = {"model": "echo", "prompt": "hello"}
Meanwhile = Callable[[Callable[[], object]], None]


def test_the_finished_job_comes_back(
    client: FlaskClient, worker: PlayedWorker, meanwhile: Meanwhile
) -> None:
    meanwhile(lambda: worker.serve("he", "llo"))

    response = client.post("/v1/infer", json=ECHO)

    job = Job.model_validate(response.json)
    assert response.status_code == 200
    assert job.output == {"text": "hello", "finish_reason": "stop"}
    assert job.status == "succeeded"
    assert job.urls is not None and job.urls.get.endswith(job.id)


def test_a_job_that_takes_longer_goes_on(client: FlaskClient, worker: PlayedWorker) -> None:
    response = client.post("/v1/infer?timeout=0.2", json=ECHO)

    assert response.status_code == 202
    assert response.headers["Location"] == response.json["urls"]["get"]
    assert worker.serve("x").id == response.json["id"]
    assert client.get(f"/v1/jobs/{response.json['id']}").json["status"] == "succeeded"


@pytest.mark.parametrize(
    "code",
    ["invalid_input", "prompt_too_long", "engine_error", "worker_crashed", "run_timeout"],
)
def test_a_failed_job_is_a_problem_with_its_id(
    client: FlaskClient, worker: PlayedWorker, meanwhile: Meanwhile, code: str
) -> None:
    meanwhile(lambda: worker.fail(code, "Because."))

    response = client.post("/v1/infer", json=ECHO)

    assert response.status_code == PROBLEMS[code].status
    assert response.content_type == "application/problem+json"
    assert (response.json["code"], response.json["detail"]) == (code, "Because.")
    assert client.get(f"/v1/jobs/{response.json['job_id']}").json["error"]["code"] == code


def test_an_engines_own_code_becomes_engine_error(
    client: FlaskClient, worker: PlayedWorker, meanwhile: Meanwhile
) -> None:
    meanwhile(lambda: worker.fail("flux_capacitor", "Empty."))

    response = client.post("/v1/infer", json=ECHO)

    assert (response.status_code, response.json["code"]) == (502, "engine_error")
    assert response.json["detail"] == "Empty."


@pytest.mark.parametrize(
    ("state", "code"), [(JobState.CANCELED, "job_canceled"), (JobState.EXPIRED, "job_expired")]
)
def test_canceled_and_expired_jobs_are_problems_too(
    client: FlaskClient, worker: PlayedWorker, meanwhile: Meanwhile, state: JobState, code: str
) -> None:
    meanwhile(lambda: worker.end(worker.take(), state))

    response = client.post("/v1/infer", json=ECHO)

    assert (response.status_code, response.json["code"]) == (PROBLEMS[code].status, code)
    assert response.json["job_id"].startswith("job_")


def test_a_repeated_request_gets_the_same_result(
    client: FlaskClient, worker: PlayedWorker, meanwhile: Meanwhile
) -> None:
    meanwhile(lambda: worker.serve("x"))
    headers = {"Idempotency-Key": "once"}

    first = client.post("/v1/infer", json=ECHO, headers=headers)
    again = client.post("/v1/infer", json=ECHO, headers=headers)

    assert again.status_code == 200
    assert again.json["id"] == first.json["id"]
    assert again.headers["Idempotent-Replayed"] == "true"


@pytest.mark.parametrize(("timeout", "position"), [(0, 0), (1, None)])
def test_a_job_that_is_in_is_never_an_error(
    client: FlaskClient,
    store: JobStore,
    monkeypatch: pytest.MonkeyPatch,
    timeout: int,
    position: int | None,
) -> None:
    def away(*args: object) -> None:
        raise StoreUnavailable("gone")

    monkeypatch.setattr(of(client.application).store, "get", away)

    response = client.post(f"/v1/infer?timeout={timeout}", json={**ECHO, "metadata": {"a": "b"}})

    assert response.status_code == 202
    job = Job.model_validate(response.json)
    assert (job.status, job.queue_position, job.metadata) == ("queued", position, {"a": "b"})
    monkeypatch.undo()
    assert store.get(job.id).state is JobState.QUEUED


def test_last_event_id_without_a_key_makes_no_job(client: FlaskClient) -> None:
    response = client.post("/v1/infer/stream", json=ECHO, headers={"Last-Event-ID": "1-3"})

    assert (response.status_code, response.json["code"]) == (422, "invalid_cursor")
    assert client.get("/v1/jobs").json["data"] == []
