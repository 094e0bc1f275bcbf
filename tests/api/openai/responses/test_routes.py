"""The routes of Responses: a response is a job; it is read, followed, cancelled, deleted and gone on with."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from flask.testing import FlaskClient

from shared.domain.records import Append, Claim, Requeue
from shared.settings import Settings, key_secret
from shared.store.api_key_tokens import Signer
from shared.store.api_keys import ApiKeys, Grant, Scope
from shared.store.jobs import JobStore
from tests.api.conftest import PlayedWorker

ASK = {"model": "llama", "input": "Hello"}
LATER = {**ASK, "background": True}
RETRY = {"x-stainless-retry-count": "1"}
URL = "/v1/responses"
TOOL = {"type": "function", "name": "look_up", "parameters": {"type": "object"}}
Meanwhile = Callable[[Callable[[], object]], None]


@pytest.fixture
def worker(store: JobStore) -> PlayedWorker:
    return PlayedWorker(store, "llama")


def made(client: FlaskClient, body: Any, **headers: str) -> Any:
    answer = client.post(URL, json=body, headers=headers)
    assert answer.status_code == 200, answer.json
    return answer.json


def later(client: FlaskClient, worker: PlayedWorker, *texts: str, **asked: Any) -> Any:
    """A response that was made in the background, once its model has said these texts."""
    found = made(client, {**LATER, **asked})
    worker.serve(*texts)
    return client.get(f"{URL}/{found['id']}").json


def events(body: bytes) -> list[Any]:
    found = []
    for frame in body.decode().split("\n\n"):
        lines = [line for line in frame.split("\n") if line and not line.startswith(":")]
        if lines:
            kind, data = lines
            found.append(json.loads(data.removeprefix("data: ")))
            assert kind == f"event: {found[-1]['type']}"
    return found


def followed(client: FlaskClient, response_id: str, after: int | None = None) -> list[Any]:
    behind = f"&starting_after={after}" if after is not None else ""
    answer = client.get(f"{URL}/{response_id}?stream=true{behind}")
    assert answer.status_code == 200, answer.json
    return events(answer.data)


def followed_so_far(client: FlaskClient, response_id: str) -> list[Any]:
    """The events of a response that is not done, up to the last piece of its text."""
    reader = client.get(f"{URL}/{response_id}?stream=true", buffered=False)
    told: list[Any] = []
    for frames in reader.response:
        told += events(frames)
        if told[-1]["type"].endswith("delta"):
            break
    reader.close()
    return told


def again(store: JobStore, claim: Claim) -> None:
    """Give an attempt back, as one that failed."""
    store.write([Requeue(claim.id, claim.attempt, "engine_error")])


def test_a_response_is_a_job(
    client: FlaskClient, store: JobStore, worker: PlayedWorker, meanwhile: Meanwhile
) -> None:
    meanwhile(lambda: worker.serve("Hi", " there"))

    answer = made(client, {**ASK, "temperature": 0.5, "metadata": {"k": "v"}})

    (record,) = store.listing("default")[0]
    assert answer["id"] == record.id.replace("job_", "resp_")
    assert (answer["status"], answer["temperature"], answer["top_p"]) == ("completed", 0.5, 1.0)
    [item] = answer["output"]
    assert item["content"] == [
        {"type": "output_text", "text": "Hi there", "annotations": [], "logprobs": []}
    ]
    assert answer["usage"]["output_tokens"] == 2 and answer["metadata"] == {"k": "v"}
    assert client.get(f"{URL}/{answer['id']}").json == answer


def test_the_worker_gets_a_chat(client: FlaskClient, worker: PlayedWorker) -> None:
    items = [
        {"role": "user", "content": [{"type": "input_text", "text": "How warm is it?"}]},
        {"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": "Hm."}]},
        {"type": "function_call", "call_id": "c1", "name": "look_up", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c1", "output": "20"},
    ]
    asked = {"instructions": "Be brief.", "input": items, "tools": [TOOL], "max_output_tokens": 9}
    made(client, {**LATER, **asked, "tool_choice": "required", "reasoning": {"effort": "none"}})

    request = json.loads(worker.take().request)

    call = {"id": "c1", "type": "function", "function": {"name": "look_up", "arguments": "{}"}}
    assert request["content"]["messages"] == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "How warm is it?"},
        {"role": "assistant", "content": "", "reasoning_content": "Hm.", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c1", "content": "20"},
    ]
    function = {"name": "look_up", "parameters": {"type": "object"}}
    assert request["content"]["tools"] == [{"type": "function", "function": function}]
    assert request["content"]["tool_choice"] == "required"
    assert request["content"]["chat_template_kwargs"] == {"enable_thinking": False}
    assert request["params"]["max_new_tokens"] == 9


def test_one_in_the_background_is_answered_at_once_and_read_later(
    client: FlaskClient, worker: PlayedWorker
) -> None:
    queued = made(client, {**LATER, "background_options": {"completion_window": "2h"}})
    assert (queued["status"], queued["output"], queued["usage"]) == ("queued", [], None)
    claim = worker.take()
    assert 7000 < claim.deadline <= 7200
    assert client.get(f"{URL}/{queued['id']}").json["status"] == "in_progress"

    worker.end(claim, output={"text": "Hi", "finish_reason": "length"}, usage={})

    ended = client.get(f"{URL}/{queued['id']}").json
    assert ended["status"] == "incomplete" and ended["output"][0]["status"] == "incomplete"
    assert ended["incomplete_details"] == {"reason": "max_output_tokens"}


@pytest.mark.parametrize(
    ("code", "told"), [("engine_error", "server_error"), ("invalid_input", "invalid_prompt")]
)
def test_one_that_failed_says_why(
    client: FlaskClient, worker: PlayedWorker, code: str, told: str
) -> None:
    asked = made(client, LATER)
    worker.fail(code, "It broke.")

    failed = client.get(f"{URL}/{asked['id']}").json

    assert (failed["status"], failed["output"]) == ("failed", [])
    assert (failed["error"]["code"], failed["error"]["message"]) == (told, "It broke.")


def test_one_that_fails_while_its_client_waits_is_not_asked_again(
    client: FlaskClient, worker: PlayedWorker, meanwhile: Meanwhile
) -> None:
    meanwhile(lambda: worker.fail("worker_crashed"))

    answer = client.post(URL, json=ASK)

    assert answer.status_code == 424 and answer.headers["x-should-retry"] == "false"


def test_a_retry_joins_the_response(client: FlaskClient, store: JobStore) -> None:
    first, again = made(client, LATER), made(client, LATER, **RETRY)

    assert first == again and len(store.listing("default")[0]) == 1


def test_the_events_are_numbered_and_the_same_at_every_call(
    client: FlaskClient, worker: PlayedWorker
) -> None:
    asked = later(client, worker, "Hi", "\u2028there")

    told = followed(client, asked["id"])

    assert [event["sequence_number"] for event in told] == list(range(len(told)))
    assert [event["type"].removeprefix("response.") for event in told] == [
        *("created", "queued", "in_progress", "output_item.added", "content_part.added"),
        *("output_text.delta", "output_text.delta", "output_text.done", "content_part.done"),
        *("output_item.done", "completed"),
    ]
    assert told[-1]["response"] == asked
    assert followed(client, asked["id"]) == told
    for after in (0, 2, 4, 9, len(told) - 1, 10**9):
        assert followed(client, asked["id"], after) == told[after + 1 :]


def test_a_stream_is_told_live_and_outlives_its_reader_in_the_background(
    client: FlaskClient, worker: PlayedWorker
) -> None:
    stream = client.post(URL, json={**LATER, "stream": True}, buffered=False)
    opened = events(next(iter(stream.response)))
    assert [event["type"] for event in opened] == ["response.created", "response.queued"]
    worker.serve("Hi")
    told = opened + events(b"".join(stream.response))

    assert told == followed(client, opened[0]["response"]["id"])
    assert not any(line.startswith((b"id:", b"retry:")) for line in stream.data.splitlines())


def test_events_go_on_over_attempts(client: FlaskClient, store: JobStore) -> None:
    played = PlayedWorker(store, "llama")
    asked = made(client, LATER)
    first = played.take()
    played.say(first, 1, "Hi")
    again(store, first)
    before = followed_so_far(client, asked["id"])
    second = played.take()
    played.say(second, 1, " there")
    played.end(second, output={"text": "Hi there", "finish_reason": "stop"}, usage={})

    told = followed(client, asked["id"])

    assert told[: len(before)] == before
    assert [event["sequence_number"] for event in told] == list(range(len(told)))
    assert "".join(e["delta"] for e in told if e["type"].endswith("text.delta")) == "Hi there"


def test_an_answer_that_began_anew_is_told_from_the_start_alone(
    client: FlaskClient, store: JobStore
) -> None:
    played = PlayedWorker(store, "llama")
    asked = made(client, LATER)
    first = played.take()
    played.say(first, 1, "void")
    reader = client.get(f"{URL}/{asked['id']}?stream=true", buffered=False)
    live = iter(reader.response)
    seen = events(next(live) + next(live))
    again(store, first)
    second = played.take()
    store.write([Append(second.id, 2, 1, "reset", b'{"attempt":2}')])
    played.say(second, 2, "good")
    played.end(second, output={"text": "good", "finish_reason": "stop"}, usage={})

    *_, broken = events(b"".join(live))
    told = followed(client, asked["id"])

    assert seen[-1]["delta"] == "void" and broken["error"]["code"] == "stream_reset"
    assert [e["delta"] for e in told if e["type"].endswith("text.delta")] == ["good"]
    assert [event["sequence_number"] for event in told] == list(range(len(told)))
    assert followed(client, asked["id"], 1) == told[2:]
    [refused] = followed(client, asked["id"], seen[-1]["sequence_number"])
    assert refused["error"]["code"] == "stream_reset"


def test_a_failed_stream_ends_with_the_whole_response(
    client: FlaskClient, worker: PlayedWorker, meanwhile: Meanwhile
) -> None:
    meanwhile(lambda: worker.fail("engine_error", "It broke."))

    *_, added, _, failed = events(client.post(URL, json={**ASK, "stream": True}).data)

    assert failed["type"] == "response.failed"
    assert failed["response"]["error"]["message"] == "It broke."
    assert added["type"] == "response.output_item.added", "else the AI SDK asks again"


def test_cancel_is_for_the_background_and_may_be_repeated(
    client: FlaskClient, worker: PlayedWorker, meanwhile: Meanwhile
) -> None:
    asked = made(client, LATER)
    cancelled = client.post(f"{URL}/{asked['id']}/cancel")
    assert cancelled.status_code == 200 and cancelled.json["status"] == "cancelled"
    assert client.post(f"{URL}/{asked['id']}/cancel").json == cancelled.json
    assert followed(client, asked["id"])[-1]["type"] == "response.queued", "no event says so"
    meanwhile(lambda: worker.serve("Hi"))
    waited = made(client, ASK)

    refused = client.post(f"{URL}/{waited['id']}/cancel")

    assert refused.status_code == 400 and "background" in refused.json["error"]["message"]


def test_what_is_deleted_is_gone(client: FlaskClient, worker: PlayedWorker) -> None:
    running = made(client, LATER)
    assert client.delete(f"{URL}/{running['id']}").status_code == 400
    worker.serve("Hi")

    gone = client.delete(f"{URL}/{running['id']}")

    assert gone.json == {"id": running["id"], "object": "response", "deleted": True}
    for call in (client.get, client.delete):
        answer = call(f"{URL}/{running['id']}")
        assert answer.status_code == 404 and answer.json["error"]["code"] == "response_not_found"


def test_a_response_goes_on_with_another(client: FlaskClient, worker: PlayedWorker) -> None:
    first = later(client, worker, "Hi", instructions="Be brief.")
    second = made(client, {**LATER, "input": "More", "previous_response_id": first["id"]})

    request = json.loads(worker.take().request)

    assert request["content"]["messages"] == [
        {"role": "user", "content": "Hello"},
        {"role": "assistant", "content": "Hi"},
        {"role": "user", "content": "More"},
    ]
    assert second["previous_response_id"] == first["id"] and second["instructions"] is None


@pytest.mark.parametrize("gone", ["deleted", "unknown", "not kept"])
def test_one_whose_predecessor_has_gone_is_refused(
    client: FlaskClient, worker: PlayedWorker, meanwhile: Meanwhile, gone: str
) -> None:
    before = "resp_" + "0" * 32
    if gone == "deleted":
        before = later(client, worker, "Hi")["id"]
        client.delete(f"{URL}/{before}")
    elif gone == "not kept":
        meanwhile(lambda: worker.serve("Hi"))
        before = made(client, {**ASK, "store": False})["id"]

    answer = client.post(URL, json={**ASK, "previous_response_id": before})

    assert answer.status_code == 400
    assert answer.json["error"]["code"] == "previous_response_not_found"


def test_one_that_has_no_output_cannot_be_gone_on_with(client: FlaskClient) -> None:
    running = made(client, LATER)["id"]

    answer = client.post(URL, json={**ASK, "previous_response_id": running})

    assert answer.status_code == 400 and "queued" in answer.json["error"]["message"]


def test_items_are_named_by_their_ids(client: FlaskClient, worker: PlayedWorker) -> None:
    first = later(client, worker, "Hi")
    listed = client.get(f"{URL}/{first['id']}/input_items").json["data"]
    named = [{"type": "item_reference", "id": listed[0]["id"]}, {"id": first["output"][0]["id"]}]
    made(client, {**LATER, "input": [*named, {"role": "user", "content": "More"}]})

    request = json.loads(worker.take().request)

    assert [m["content"] for m in request["content"]["messages"]] == ["Hello", "Hi", "More"]
    unknown = client.post(URL, json={**LATER, "input": [{"id": "msg_1"}]})
    assert unknown.status_code == 400 and "msg_1" in unknown.json["error"]["message"]


def test_input_items_are_paged(client: FlaskClient, worker: PlayedWorker) -> None:
    turns = [{"role": "user", "content": str(n)} for n in range(4)]
    asked = made(client, {**LATER, "input": [*turns, {**turns[0], "id": "mine"}]})
    url = f"{URL}/{asked['id']}/input_items"

    first = client.get(f"{url}?limit=3").json
    second = client.get(f"{url}?limit=3&after={first['last_id']}").json
    oldest = client.get(f"{url}?order=asc&limit=1").json

    told = [item["content"][0]["text"] for page in (first, second) for item in page["data"]]
    assert told == ["0", "3", "2", "1", "0"] and first["data"][0]["id"] == "mine"
    assert (first["has_more"], second["has_more"]) == (True, False)
    assert oldest["data"] == second["data"][-1:]
    assert client.get(f"{url}?after=nobody").status_code == 400


def test_a_response_is_its_tenants(
    client: FlaskClient, settings: Settings, store: JobStore, worker: PlayedWorker
) -> None:
    asked = later(client, worker, "Hi")
    _, token = ApiKeys(store.redis, store.keys, Signer(key_secret(settings))).create(
        Grant(tenant="other", scopes=frozenset({Scope.JOBS_READ, Scope.JOBS_WRITE}))
    )
    other = {"Authorization": f"Bearer {token}"}

    for method, path in [("GET", ""), ("DELETE", ""), ("POST", "/cancel"), ("GET", "/input_items")]:
        answer = client.open(f"{URL}/{asked['id']}{path}", method=method, headers=other)
        assert answer.status_code == 404, path
        assert answer.json["error"]["code"] == "response_not_found"
    after = client.post(URL, json={**ASK, "previous_response_id": asked["id"]}, headers=other)
    assert after.json["error"]["code"] == "previous_response_not_found"
    item = {"id": asked["output"][0]["id"]}
    assert client.post(URL, json={**ASK, "input": [item]}, headers=other).status_code == 400


@pytest.mark.parametrize(
    ("asked", "why"),
    [
        ({"tools": [{"type": "web_search"}]}, "web_search"),
        ({"tools": [{"type": "mcp", "server_label": "x"}]}, "mcp"),
        ({"input": [{"type": "web_search_call", "id": "ws_1"}]}, "web_search_call"),
        ({"input": [{"role": "user", "content": [{"type": "input_image"}]}]}, "input_image"),
        ({"conversation": "conv_1"}, "conversation"),
        ({"prompt": {"id": "pmpt_1"}}, "prompt"),
        ({"truncation": "auto"}, "truncation"),
        ({"tool_choice": {"type": "function", "name": "x"}}, "'x'"),
        ({"background": True, "store": False}, "store"),
        ({"background_options": {"completion_window": "2h"}}, "background"),
        ({"previous_response_id": "job_1"}, "previous_response_id"),
        ({"max_completion_tokens": 3}, "max_completion_tokens"),
        ({"text": {"format": {"type": "json_schema", "name": "x"}}}, "schema"),
    ],
    ids=lambda given: "-".join(given) if isinstance(given, dict) else "",
)
def test_what_cannot_be_meant_is_refused_by_its_name(
    client: FlaskClient, store: JobStore, asked: dict[str, Any], why: str
) -> None:
    answer = client.post(URL, json={**ASK, **asked})

    assert answer.status_code == 400 and why in answer.json["error"]["message"], answer.json
    assert store.listing("default")[0] == []


@pytest.mark.parametrize(
    "query", ["stream=yes", "starting_after=one", "stream=true&starting_after=-1"]
)
def test_parameters_are_checked(client: FlaskClient, query: str) -> None:
    asked = made(client, LATER)

    assert client.get(f"{URL}/{asked['id']}?{query}").status_code == 400


def test_a_job_of_another_call_is_no_response(
    client: FlaskClient, worker: PlayedWorker, meanwhile: Meanwhile
) -> None:
    meanwhile(lambda: worker.serve("Hi"))
    chat = {"model": "llama", "messages": [{"role": "user", "content": "Hello"}]}
    job = client.post("/v1/chat/completions", json=chat).json["id"]

    assert client.get(f"{URL}/{job.replace('chatcmpl-', 'resp_')}").status_code == 404
