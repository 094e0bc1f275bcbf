"""Dead letters over HTTP: listed for their tenant, tried again as new jobs."""

from flask.testing import FlaskClient

from shared.domain.records import Finish
from shared.domain.states import JobState
from shared.store.jobs import JobStore


def fail(client: FlaskClient, store: JobStore) -> str:
    job_id: str = client.post("/v1/jobs", json={"model": "echo", "prompt": "hello"}).json["id"]
    [claim] = store.claim("echo", 1, "w").claims
    error = b'{"code":"engine_error","message":"broke","retryable":true}'
    end = Finish(job_id, claim.attempt, JobState.FAILED, error=error, dead=True)
    assert store.write([end]) == [1]
    return job_id


def test_a_dead_letter_is_listed_until_it_is_tried_again(
    client: FlaskClient, store: JobStore
) -> None:
    job_id = fail(client, store)
    assert [job["id"] for job in client.get("/v1/dead-letters").json["data"]] == [job_id]

    first = client.post(f"/v1/jobs/{job_id}/retry")
    again = client.post(f"/v1/jobs/{job_id}/retry")

    assert (first.status_code, again.status_code) == (202, 200)
    assert first.json["id"] == again.json["id"] != job_id
    assert first.json["metadata"] == {"retry_of": job_id}
    assert first.headers["Location"].endswith(first.json["id"])
    assert again.headers["Idempotent-Replayed"] == "true"
    assert client.get("/v1/dead-letters").json["data"] == []
    assert client.get(f"/v1/jobs/{job_id}").json["status"] == "failed"


def test_only_failed_jobs_are_tried_again(client: FlaskClient) -> None:
    job_id = client.post("/v1/jobs", json={"model": "echo", "prompt": "hello"}).json["id"]
    refused = client.post(f"/v1/jobs/{job_id}/retry")
    assert (refused.status_code, refused.json["code"]) == (409, "job_not_failed")
    assert client.post("/v1/jobs/job_" + "0" * 32 + "/retry").status_code == 404
    assert client.get("/v1/dead-letters?limit=0").status_code == 422
