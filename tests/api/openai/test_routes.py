"""OpenAI's routes: each call is a job, a retry joins it, refusals and streams are as its clients expect."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from flask.testing import FlaskClient

from api.openai import calls, retries
from shared.domain.states import JobState
from shared.settings import Settings, key_secret
from shared.store.api_key_tokens import Signer
from shared.store.api_keys import ApiKeys, Grant, Scope
from shared.store.jobs import JobStore
from tests.api.conftest import PlayedWorker

CHAT = {"model": "llama", "messages": [{"role": "user", "content": "Hello"}]}
RETRY = {"x-stainless-retry-count": "1"}
Meanwhile = Callable[[Callable[[], object]], None]


@pytest.fixture
def worker(store: JobStore) -> PlayedWorker:
    return PlayedWorker(store, "llama")


def posted(client: FlaskClient, path: str, body: Any, **headers: str) -> Any:
    return client.post(path, json=body, headers=headers)


def jobs(store: JobStore) -> list[str]:
    return [record.id for record in store.listing("default", limit=50)[0]]


def answered(worker: PlayedWorker, text: str) -> Any:
    """Take one job and succeed with this text; what the worker got."""
    claim = worker.take()
    worker.end(claim, output={"text": text, "finish_reason": "stop"}, usage={})
    return json.loads(claim.request)


def frames(body: bytes) -> list[Any]:
    found = [frame.removeprefix(b"data: ") for frame in body.split(b"\n\n") if frame]
    return [json.loads(frame) if frame != b"[DONE]" else "[DONE]" for frame in found]


def test_a_chat_is_a_job(
    client: FlaskClient, store: JobStore, worker: PlayedWorker, meanwhile: Meanwhile
) -> None:
    meanwhile(lambda: worker.serve("Hi", " there"))

    answer = posted(client, "/v1/chat/completions", {**CHAT, "temperature": 0.5, "seed": 3})

    assert answer.status_code == 200
    (job_id,) = jobs(store)
    assert answer.json["id"] == job_id.replace("job_", "chatcmpl-")
    assert answer.json["choices"][0]["message"]["content"] == "Hi there"
    assert answer.headers["X-Request-ID"]


def test_a_text_is_gone_on_with(
    client: FlaskClient, worker: PlayedWorker, meanwhile: Meanwhile
) -> None:
    meanwhile(lambda: worker.serve(" a", " time"))

    answer = posted(client, "/v1/completions", {"model": "llama", "prompt": "Once"})

    assert answer.json["object"] == "text_completion"
    assert answer.json["choices"][0]["text"] == " a time"


@pytest.mark.parametrize("prompts", [["One", "Two"], [[1, 2], [3]]], ids=["texts", "token ids"])
def test_each_of_several_prompts_is_a_job(
    client: FlaskClient,
    store: JobStore,
    worker: PlayedWorker,
    meanwhile: Meanwhile,
    prompts: list[Any],
) -> None:
    def serve() -> None:
        # The second is done first.
        claims = [worker.take(), worker.take()]
        for claim in reversed(claims):
            text = str(json.loads(claim.request)["content"])
            texts = [{"text": f"{text} {n}", "finish_reason": "stop"} for n in "ab"]
            worker.end(claim, output={**texts[0], "choices": texts}, usage={"prompt_tokens": 2})

    meanwhile(serve)
    body = {"model": "llama", "prompt": prompts, "n": 2}

    answer = posted(client, "/v1/completions", body)
    again = posted(client, "/v1/completions", body, **RETRY)

    told = [(choice["index"], choice["text"]) for choice in answer.json["choices"]]
    one, two = prompts
    assert told == [(0, f"{one} a"), (1, f"{one} b"), (2, f"{two} a"), (3, f"{two} b")]
    assert answer.json["usage"]["prompt_tokens"] == 4
    assert again.json == answer.json and len(jobs(store)) == 2


def test_where_one_of_several_prompts_is_refused_none_runs(
    client: FlaskClient, settings: Settings, store: JobStore
) -> None:
    keys = ApiKeys(store.redis, store.keys, Signer(key_secret(settings)))
    grant = Grant("small", frozenset({Scope.JOBS_WRITE}), max_queued=1)
    small = {"Authorization": f"Bearer {keys.create(grant)[1]}"}

    answer = posted(client, "/v1/completions", {"model": "llama", "prompt": ["1", "2"]}, **small)

    assert answer.status_code == 503 and answer.json["error"]["code"] == "tenant_queue_full"
    assert [record.state for record in store.listing("small")[0]] == [JobState.CANCELED]


def test_where_one_of_several_prompts_fails_the_call_does(
    client: FlaskClient, worker: PlayedWorker, meanwhile: Meanwhile
) -> None:
    def serve() -> None:
        worker.serve("fine")
        worker.fail("engine_error")

    meanwhile(serve)

    answer = posted(client, "/v1/completions", {"model": "llama", "prompt": ["One", "Two"]})

    assert answer.status_code == 424 and answer.headers["x-should-retry"] == "false"


def test_texts_are_embedded(
    client: FlaskClient, worker: PlayedWorker, meanwhile: Meanwhile
) -> None:
    def embed() -> None:
        output = {"embeddings": [[0.5, 0.25]], "dimensions": 2}
        worker.end(worker.take("encoder"), output=output, usage={"prompt_tokens": 3})

    meanwhile(embed)

    answer = posted(client, "/v1/embeddings", {"model": "encoder", "input": ["a"]})

    assert answer.json["data"] == [{"object": "embedding", "index": 0, "embedding": [0.5, 0.25]}]
    assert answer.json["usage"] == {"prompt_tokens": 3, "total_tokens": 3}


def test_more_texts_than_a_job_holds_are_embedded_in_order(
    client: FlaskClient, worker: PlayedWorker, meanwhile: Meanwhile
) -> None:
    def embed() -> None:
        for _ in range(2):
            claim = worker.take("encoder")
            given = json.loads(claim.request)["content"]
            vectors = [[float(text)] for text in given]
            worker.end(claim, output={"embeddings": vectors, "dimensions": 1}, usage={})

    meanwhile(embed)
    texts = [str(number) for number in range(600)]

    answer = posted(client, "/v1/embeddings", {"model": "encoder", "input": texts})

    assert [one["embedding"] for one in answer.json["data"]] == [[float(text)] for text in texts]


def test_documents_are_ranked(
    client: FlaskClient, worker: PlayedWorker, meanwhile: Meanwhile
) -> None:
    output = {"results": [{"index": 1, "score": 0.9}]}
    meanwhile(lambda: worker.end(worker.take("ranker"), output=output, usage={}))
    asked = {"model": "ranker", "query": "q", "documents": ["a", "b"], "top_n": 1}

    answer = posted(client, "/v1/rerank", {**asked, "return_documents": True})

    assert answer.json["results"] == [
        {"index": 1, "relevance_score": 0.9, "document": {"text": "b"}}
    ]


def test_a_stream_tells_the_text_and_then_ends(
    client: FlaskClient, worker: PlayedWorker, meanwhile: Meanwhile
) -> None:
    meanwhile(lambda: worker.serve("Hi", " there"))

    answer = posted(client, "/v1/chat/completions", {**CHAT, "stream": True})
    body = answer.data

    assert answer.content_type == "text/event-stream"
    assert not any(line.startswith((b"id:", b"retry:", b"event:")) for line in body.splitlines())
    *chunks, done = frames(body)
    assert done == "[DONE]"
    assert "".join(c["choices"][0]["delta"].get("content", "") for c in chunks) == "Hi there"
    assert len({chunk["id"] for chunk in chunks}) == 1
    assert chunks[-1]["choices"][0]["finish_reason"] == "stop"


def test_a_stream_whose_job_fails_says_so_and_is_not_tried_again(
    client: FlaskClient, worker: PlayedWorker, meanwhile: Meanwhile
) -> None:
    meanwhile(lambda: worker.fail("engine_error", "The model broke."))

    *_, last = frames(posted(client, "/v1/chat/completions", {**CHAT, "stream": True}).data)

    assert last["error"]["message"] == "The model broke."
    assert last["error"]["type"] == "invalid_request_error"


def test_a_job_that_fails_for_good_is_a_4xx_that_no_client_tries_again(
    client: FlaskClient, worker: PlayedWorker, meanwhile: Meanwhile
) -> None:
    meanwhile(lambda: worker.fail("worker_crashed"))

    answer = posted(client, "/v1/chat/completions", CHAT)

    assert answer.status_code == 424
    assert answer.headers["x-should-retry"] == "false"
    assert answer.json["job_id"].startswith("job_")


@pytest.mark.parametrize(
    ("body", "status", "param", "words"),
    [
        ({**CHAT, "model": "nobody"}, 404, None, "nobody"),
        ({**CHAT, "model": "encoder"}, 404, None, "writes no text"),
        ({**CHAT, "temprature": 1}, 400, "temprature", ""),
        ({**CHAT, "temperature": 3}, 400, "temperature", ""),
        ({"model": "llama"}, 400, "messages", ""),
        ({**CHAT, "messages": [{"role": "king", "content": ""}]}, 400, "messages[0].role", ""),
        ({**CHAT, "max_tokens": 65}, 400, "max_tokens", "at most 64"),
    ],
)
def test_refusals(
    client: FlaskClient, store: JobStore, body: Any, status: int, param: str | None, words: str
) -> None:
    answer = posted(client, "/v1/chat/completions", body)

    assert answer.status_code == status
    assert answer.json["error"]["param"] == param
    assert words in answer.json["error"]["message"]
    assert jobs(store) == []


def test_without_a_key_it_is_a_401_in_the_dialect(anonymous: FlaskClient) -> None:
    answer = posted(anonymous, "/v1/chat/completions", CHAT)

    assert answer.status_code == 401
    assert answer.json["error"]["type"] == "authentication_error"


def test_two_first_tries_are_two_jobs_and_a_retry_joins_the_last(
    client: FlaskClient,
    store: JobStore,
    worker: PlayedWorker,
    meanwhile: Meanwhile,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(calls, "MOST_SECONDS", 0.1)
    answers = [posted(client, "/v1/chat/completions", CHAT) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [503, 503]
    assert answers[0].json["error"]["code"] == "still_running"
    assert len(jobs(store)) == 2

    worker.serve("first")
    worker.serve("second")
    again = posted(client, "/v1/chat/completions", CHAT, **RETRY)

    assert again.json["choices"][0]["message"]["content"] == "second"
    assert len(jobs(store)) == 2


def test_a_retry_that_finds_nothing_makes_the_job(
    client: FlaskClient, worker: PlayedWorker, meanwhile: Meanwhile
) -> None:
    """Its first try never came here."""
    meanwhile(lambda: worker.serve("Hi"))

    answer = posted(client, "/v1/chat/completions", CHAT, **RETRY)

    assert answer.json["choices"][0]["message"]["content"] == "Hi"


@pytest.mark.parametrize("gone", ["canceled", "long ago"])
def test_a_retry_does_not_join_what_nobody_waits_for_any_more(
    client: FlaskClient,
    store: JobStore,
    worker: PlayedWorker,
    meanwhile: Meanwhile,
    monkeypatch: pytest.MonkeyPatch,
    gone: str,
) -> None:
    monkeypatch.setattr(calls, "MOST_SECONDS", 0.1)
    posted(client, "/v1/chat/completions", CHAT)
    if gone == "canceled":
        worker.end(worker.take(), JobState.CANCELED)
    else:
        worker.serve("old")
        monkeypatch.setattr(retries, "JUST_ENDED", 0.0)
    monkeypatch.setattr(calls, "MOST_SECONDS", 20.0)
    meanwhile(lambda: worker.serve("new"))

    again = posted(client, "/v1/chat/completions", CHAT, **RETRY)

    assert again.json["choices"][0]["message"]["content"] == "new"
    assert len(jobs(store)) == 2


def test_a_retried_stream_has_the_id_and_all_the_text_of_its_job(
    client: FlaskClient,
    store: JobStore,
    worker: PlayedWorker,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    first = client.post("/v1/chat/completions", json={**CHAT, "stream": True}, buffered=False)
    assert next(iter(first.response))
    worker.serve("Hi", " there")

    again = posted(client, "/v1/chat/completions", {**CHAT, "stream": True}, **RETRY)
    *chunks, done = frames(again.data)

    (job_id,) = jobs(store)
    assert {chunk["id"] for chunk in chunks} == {job_id.replace("job_", "chatcmpl-")}
    assert "".join(c["choices"][0]["delta"].get("content", "") for c in chunks) == "Hi there"
    assert done == "[DONE]"


def test_the_models_own_sampling_is_the_default(
    client: FlaskClient, store: JobStore, worker: PlayedWorker
) -> None:
    report = {"state": "ready", "engine": {"generation_config": {"not_applied": {"top_k": 20}}}}
    store.beat("llama", "w", json.dumps(report).encode(), [])
    posted_chat = {**CHAT, "seed": 3, "stream": True}
    stream = client.post("/v1/chat/completions", json=posted_chat, buffered=False)
    assert next(iter(stream.response))

    asked = answered(worker, "x")

    assert asked["content"] == {"messages": CHAT["messages"]}
    assert (asked["params"]["top_k"], asked["params"]["temperature"], asked["seed"]) == (20, 1.0, 3)


@pytest.mark.parametrize(
    ("method", "path", "code"),
    [
        ("POST", "/v1/moderations", "not_found"),
        ("GET", "/v1/chat/completions/chatcmpl-1", "not_found"),
        ("GET", "/v1/chat/completions", "method_not_allowed"),
        ("GET", "/v1/models/nope", "model_not_found"),
        ("GET", "/nope", None),
    ],
)
def test_what_is_not_here_says_so_to_openais_clients(
    client: FlaskClient, method: str, path: str, code: str | None
) -> None:
    answer = client.open(path, method=method, json={} if method == "POST" else None)

    told = answer.json.get("error")
    assert answer.content_type == "application/problem+json"
    assert (told and told["code"], told and told["message"]) == (
        code,
        code and answer.json["detail"],
    )
