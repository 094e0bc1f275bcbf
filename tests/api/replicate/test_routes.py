"""Replicate's routes: predictions are jobs, waits end in time, streams go on where they broke off."""

import json
import time
from collections.abc import Callable
from typing import Any

import pytest
from flask.testing import FlaskClient

from api.services import of
from shared.domain.predictions import version_id
from shared.domain.records import Append
from shared.domain.states import JobState
from shared.store.jobs import JobStore
from shared.webhooks.outbox import Outbox
from shared.webhooks.signing import Keyring, parse_secrets
from tests.api.conftest import PlayedWorker

Meanwhile = Callable[[Callable[[], object]], None]
HOOK = "https://1.1.1.1/hook"
LLAMA = "/v1/models/truthgpt/llama/predictions"


@pytest.fixture
def worker(store: JobStore) -> PlayedWorker:
    return PlayedWorker(store, "llama")


def made(client: FlaskClient, path: str = LLAMA, **body: Any) -> Any:
    answer = client.post(path, json={"input": {"prompt": "Hello"}, **body})
    assert answer.status_code == 201, answer.data
    return answer.json


def test_a_prediction_is_a_job(client: FlaskClient, worker: PlayedWorker) -> None:
    given = {"prompt": "Hello", "max_tokens": 4, "temperature": 0.5, "seed": 3}

    found = made(client, input=given)

    assert found["status"] == "starting"
    assert found["model"] == "truthgpt/llama"
    assert found["version"] == version_id("llama")
    assert found["input"] == given
    assert found["output"] is None
    assert found["urls"]["get"] == f"http://localhost/v1/predictions/{found['id']}"
    claim = worker.serve("Hi", " there")
    assert claim.id == found["id"]
    request = json.loads(claim.request)
    assert request["content"] == "Hello"
    assert request["params"]["max_new_tokens"] == 4
    ended = client.get(found["urls"]["get"]).json
    assert ended["status"] == "succeeded"
    assert ended["output"] == ["Hi there"]
    assert ended["completed_at"]
    assert ended["metrics"]["output_token_count"] == 2
    assert client.get(f"/v1/jobs/{found['id']}").json["output"]["text"] == "Hi there"


@pytest.mark.parametrize(
    "version",
    [
        version_id("llama"),
        "truthgpt/llama",
        f"truthgpt/llama:{version_id('llama')}",
    ],
)
def test_a_prediction_may_be_of_a_version(client: FlaskClient, version: str) -> None:
    assert made(client, "/v1/predictions", version=version)["model"] == "truthgpt/llama"


def test_a_deployment_is_a_model(client: FlaskClient) -> None:
    found = made(client, "/v1/deployments/truthgpt/llama/predictions")
    assert found["model"] == "truthgpt/llama"
    assert (
        client.get("/v1/deployments/truthgpt/llama").json["current_release"]["version"]
        == (found["version"])
    )
    assert len(client.get("/v1/deployments").json["results"]) == 6


def test_a_wait_that_ends_too_early_tells_a_prediction_that_starts(
    client: FlaskClient, worker: PlayedWorker, meanwhile: Meanwhile
) -> None:
    """Replicate's clients take `processing` for an end."""
    meanwhile(worker.take)

    answer = client.post(LLAMA, json={"input": {"prompt": "Hello"}}, headers={"Prefer": "wait=1"})

    assert (answer.status_code, answer.json["status"]) == (201, "starting")
    assert answer.headers["Preference-Applied"] == "wait=1"
    assert client.get(answer.json["urls"]["get"]).json["status"] == "processing"


def test_a_wait_ends_with_the_job(
    client: FlaskClient, worker: PlayedWorker, meanwhile: Meanwhile
) -> None:
    meanwhile(lambda: worker.serve("https://a.example"))
    began = time.monotonic()

    answer = client.post(LLAMA, json={"input": {"prompt": "Hello"}}, headers={"Prefer": "wait"})

    assert answer.json["status"] == "succeeded"
    assert answer.json["output"] == ["h", "ttps://a.example"]
    assert time.monotonic() - began < 59


def test_what_is_no_text_is_told_as_it_is(
    client: FlaskClient, worker: PlayedWorker, meanwhile: Meanwhile
) -> None:
    output = {"embeddings": [[0.5]], "dimensions": 1}
    meanwhile(lambda: worker.end(worker.take("encoder"), output=output, usage={}))

    answer = client.post(
        "/v1/models/truthgpt/encoder/predictions",
        json={"input": {"input": ["a"], "normalize": True}},
        headers={"Prefer": "wait=20"},
    )

    assert answer.json["output"] == output
    body = client.get(answer.json["urls"]["stream"]).data
    assert events(body) == [("output", json.dumps(output, separators=(",", ":"))), ("done", "{}")]


def test_a_failed_job_is_a_failed_prediction(client: FlaskClient, worker: PlayedWorker) -> None:
    found = made(client)
    worker.fail("engine_error", "The model broke.")

    ended = client.get(found["urls"]["get"]).json

    assert (ended["status"], ended["error"], ended["output"]) == (
        "failed",
        "The model broke.",
        None,
    )
    assert events(client.get(found["urls"]["stream"]).data) == [
        ("error", "The model broke."),
        ("done", '{"reason":"error"}'),
    ]


def test_a_prediction_is_canceled(client: FlaskClient) -> None:
    found = made(client)

    answer = client.post(found["urls"]["cancel"])

    assert (answer.status_code, answer.json["status"]) == (200, "canceled")
    assert answer.json["error"] is None
    assert client.post(found["urls"]["cancel"]).json["status"] == "canceled"
    body = client.get(found["urls"]["stream"]).data
    assert events(body) == [("done", '{"reason":"canceled"}')]


def test_predictions_are_listed_in_pages(client: FlaskClient, worker: PlayedWorker) -> None:
    ids = [made(client)["id"] for _ in range(21)]

    page = client.get("/v1/predictions").json
    rest = client.get(page["next"]).json

    assert [one["id"] for one in page["results"] + rest["results"]] == ids[::-1]
    assert page["next"].startswith("http://localhost/v1/predictions?cursor=")
    assert rest["next"] is None and page["previous"] is None


def test_the_same_key_makes_one_prediction(client: FlaskClient) -> None:
    body, headers = {"input": {"prompt": "Hello"}}, {"Idempotency-Key": "one"}

    first = client.post(LLAMA, json=body, headers=headers)
    again = client.post(LLAMA, json=body, headers=headers)
    other = client.post("/v1/models/truthgpt/echo/predictions", json=body, headers=headers)

    assert again.json["id"] == first.json["id"]
    assert again.headers["Idempotent-Replayed"] == "true"
    assert (other.status_code, other.json["code"]) == (422, "idempotency_mismatch")


@pytest.mark.parametrize(
    ("given", "place"),
    [
        ({"prompt": "x", "temperature": -1}, ["input", "temperature"]),
        ({"prompt": "x", "temprature": 1}, ["input", "temprature"]),
        ({"prompt": 7}, ["input", "prompt"]),
        ({}, ["input", "prompt"]),
        ({"prompt": "x", "messages": [{"role": "user", "content": "x"}]}, ["input", "prompt"]),
        ({"prompt": "x", "n": 2}, ["input", "n"]),
        ({"messages": [{"role": "nobody", "content": "x"}]}, ["input", "messages", 0, "role"]),
    ],
)
def test_a_fault_is_told_by_where_it_is(client: FlaskClient, given: Any, place: Any) -> None:
    answer = client.post(LLAMA, json={"input": given})

    assert (answer.status_code, answer.json["code"]) == (422, "invalid_input")
    assert answer.json["errors"][0]["loc"] == place
    assert answer.json["title"] and answer.json["detail"].startswith("input.")


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/v1/models/nobody/llama/predictions", {"input": {"prompt": "x"}}, 404),
        ("/v1/models/truthgpt/nobody/predictions", {"input": {"prompt": "x"}}, 404),
        ("/v1/predictions", {"version": "0" * 64, "input": {"prompt": "x"}}, 404),
        ("/v1/predictions", {"version": "truthgpt/llama:0", "input": {"prompt": "x"}}, 404),
        ("/v1/predictions", {"input": {"prompt": "x"}}, 422),
        (LLAMA, {"input": {"prompt": "x"}, "wait": 3}, 422),
    ],
)
def test_what_is_not_there_is_refused(
    client: FlaskClient, path: str, body: Any, status: int
) -> None:
    assert client.post(path, json=body).status_code == status


def test_a_chat_is_put_together(client: FlaskClient, worker: PlayedWorker) -> None:
    messages = [{"role": "user", "content": "Hello"}]
    made(client, input={"messages": messages, "continue_final_message": True, "top_p": 0.5})

    request = json.loads(worker.take().request)

    assert request["content"] == {"messages": messages, "continue_final_message": True}
    assert request["params"]["top_p"] == 0.5


def test_an_engine_of_ones_own_gets_the_object(client: FlaskClient, store: JobStore) -> None:
    path, own = "/v1/models/truthgpt/own/predictions", PlayedWorker(store, "own")
    made(client, path, input={"prompt": "x", "size": 3})
    made(client, path, input={"input": [1, 2]})

    found = [json.loads(own.take().request)["content"] for _ in range(2)]

    assert found == [{"prompt": "x", "size": 3}, [1, 2]]


# -- models


def test_models_have_a_version_with_schemas(client: FlaskClient) -> None:
    model = client.get("/v1/models/truthgpt/llama").json
    version = model["latest_version"]

    assert model["owner"] == "truthgpt" and model["url"].startswith("http://localhost/")
    schemas = version["openapi_schema"]["components"]["schemas"]
    assert schemas["Output"]["x-cog-array-type"] == "iterator"
    assert {"prompt", "messages", "temperature"} <= set(schemas["Input"]["properties"])
    assert client.get("/v1/models/truthgpt/llama/versions").json["results"] == [version]
    one = client.get(f"/v1/models/truthgpt/llama/versions/{version['id']}")
    assert one.json == version
    assert client.get(f"/v1/models/truthgpt/llama/versions/{'0' * 64}").status_code == 404
    embedding = client.get("/v1/models/truthgpt/encoder").json["latest_version"]
    schemas = embedding["openapi_schema"]["components"]["schemas"]
    assert "embeddings" in schemas["Output"]["properties"]
    assert "prompt" not in client.get("/v1/models/truthgpt/own").json["latest_version"]


def test_the_listing_of_models_is_everybodys(client: FlaskClient) -> None:
    found = client.get("/v1/models").json

    assert [one["name"] for one in found["results"]] == [one["id"] for one in found["data"]]
    assert found["results"][0]["latest_version"]["openapi_schema"] == {}
    assert found["next"] is None and found["previous"] is None


def test_an_account_is_a_tenant(client: FlaskClient) -> None:
    assert client.get("/v1/account").json["username"] == "default"


# -- streams


def frames(body: bytes) -> list[dict[str, str]]:
    """Each event of a stream, its data lines joined."""
    found = []
    for block in body.decode().split("\n\n"):
        lines = [line.partition(": ") for line in block.split("\n") if not line.startswith(":")]
        event = {name: value for name, _, value in lines if name in ("id", "event")}
        if event:
            event["data"] = "\n".join(value for name, _, value in lines if name == "data")
            found.append(event)
    return found


def events(body: bytes) -> list[tuple[str, str]]:
    return [(event["event"], event["data"]) for event in frames(body)]


def said(worker: PlayedWorker) -> None:
    worker.serve("Hi\n", "\n there", "https://a.example", " \u2028 x\r\ny", "data:,")


def test_a_stream_needs_no_token_and_tells_raw_text(
    client: FlaskClient, anonymous: FlaskClient, worker: PlayedWorker
) -> None:
    found = made(client)
    said(worker)

    body = anonymous.get(found["urls"]["stream"]).data

    told = frames(body)
    assert all("id" in event for event in told)
    assert [event["data"] for event in told] == [
        *("Hi\n", "\n there", "h", "ttps://a.example", " \u2028 x\ny", "d", "ata:,", "{}")
    ]
    assert not any(event["data"].startswith(("https:", "data:")) for event in told)
    assert anonymous.get(f"/v1/predictions/{found['id']}/stream").status_code == 401
    assert anonymous.get(f"{found['urls']['stream']}x").status_code == 401


def test_a_stream_goes_on_behind_every_id(client: FlaskClient, worker: PlayedWorker) -> None:
    found = made(client)
    said(worker)
    url = found["urls"]["stream"]
    whole = frames(client.get(url).data)

    for at, event in enumerate(whole):
        answer = client.get(url, headers={"Last-Event-ID": event["id"]})
        assert frames(answer.data) == whole[at + 1 :], event
    assert answer.status_code == 204
    assert client.get(url, headers={"Last-Event-ID": "1~"}).status_code == 422


def test_the_end_of_a_failed_stream_goes_on_too(client: FlaskClient, worker: PlayedWorker) -> None:
    found = made(client)
    claim = worker.take()
    worker.say(claim, 1, "Hi")
    worker.end(claim, JobState.FAILED, error={"code": "engine_error", "message": "Broke."})
    whole = frames(client.get(found["urls"]["stream"]).data)

    assert [event["event"] for event in whole] == ["output", "error", "done"]
    answer = client.get(found["urls"]["stream"], headers={"Last-Event-ID": whole[1]["id"]})
    assert frames(answer.data) == whole[2:]


def test_a_text_that_begins_anew_ends_the_stream(client: FlaskClient, worker: PlayedWorker) -> None:
    found = made(client)
    claim = worker.take()
    worker.say(claim, 1, "Hi")
    worker.store.write([Append(claim.id, claim.attempt, 2, "reset", b'{"attempt":1}')])

    told = events(client.get(found["urls"]["stream"]).data)

    assert told[0] == ("output", "Hi")
    assert told[1][0] == "error" and "anew" in told[1][1]
    assert told[2] == ("done", '{"reason":"error"}')


# -- webhooks


def sent(store: JobStore) -> list[Any]:
    return [json.loads(message.body) for message in Outbox(store).claim(8, 30.0)]


@pytest.mark.parametrize(
    ("given", "statuses"),
    [
        ({"webhook": HOOK}, ["processing", "succeeded"]),
        ({"webhook": HOOK, "webhook_events_filter": ["start"]}, ["processing"]),
        ({"webhook": HOOK, "webhook_events_filter": ["completed"]}, ["succeeded"]),
        ({"webhook": HOOK, "webhook_events_filter": ["output", "completed"]}, ["succeeded"]),
        ({"webhook": HOOK, "webhook_events_filter": ["logs"]}, []),
        ({"webhook_completed": HOOK}, ["succeeded"]),
    ],
)
def test_a_webhook_is_sent_the_prediction(
    client: FlaskClient, store: JobStore, worker: PlayedWorker, given: Any, statuses: list[str]
) -> None:
    found = made(client, **given)
    worker.serve("Hi")

    told = sent(store)

    assert [body["status"] for body in told] == statuses
    assert {body["id"] for body in told} <= {found["id"]}
    if statuses[-1:] == ["succeeded"]:
        assert told[-1]["output"] == ["Hi"]
        assert told[-1]["urls"]["get"] == found["urls"]["get"]


def test_a_webhook_that_may_not_be_is_refused(client: FlaskClient) -> None:
    answer = client.post(
        LLAMA, json={"input": {"prompt": "x"}, "webhook": "https://127.0.0.1/hook"}
    )

    assert (answer.status_code, answer.json["code"]) == (422, "webhook_refused")


def test_the_default_secret_signs_predictions(client: FlaskClient, store: JobStore) -> None:
    key = client.get("/v1/webhooks/default/secret").json["key"]

    secrets = of(client.application).webhook_secrets
    signed = secrets.told_keyring("default").headers("msg_1", 1_700_000_000, b"{}")
    assert signed == Keyring(parse_secrets(key)).headers("msg_1", 1_700_000_000, b"{}")


@pytest.mark.parametrize(
    ("given", "seconds"), [("90", 90), ("5s", 5), ("1h30m", 5400), ("2m5s", 125), ("1h", 3600)]
)
def test_cancel_after_is_when_a_job_expires(
    client: FlaskClient, store: JobStore, given: str, seconds: int
) -> None:
    body = {"input": {"prompt": "Hello"}}

    answer = client.post(LLAMA, json=body, headers={"Cancel-After": given})

    fields = store.get(answer.json["id"]).fields
    assert int(fields["deadline"]) - int(fields["created"]) == seconds * 1000


@pytest.mark.parametrize("given", ["", "4s", "h", "1.5h", "-9", "169h", "1m1h", "²s"])
def test_what_is_no_time_to_cancel_after_is_refused(client: FlaskClient, given: str) -> None:
    body = {"input": {"prompt": "Hello"}}

    answer = client.post(LLAMA, json=body, headers={"Cancel-After": given.encode("latin-1")})

    assert answer.status_code in (400, 422)
    assert answer.json["code"] == "invalid_parameter"
