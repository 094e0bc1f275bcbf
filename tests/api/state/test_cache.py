"""The result cache and single flight as clients see them, on every way in."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from api.app import create_app
from api.services import of
from shared.hooks import Hooks
from shared.redis.connection import connect
from shared.settings import Settings
from shared.store.jobs import JobStore
from tests.api.conftest import AUTH, PlayedWorker, Reply, Rings, Server
from tests.api.sse import Reader, text_of
from tests.conftest import RedisServer, eventually

ASKED = {"model": "llama", "prompt": "hello"}
NO_STORE = {"Cache-Control": "no-store"}
OUTPUT = {"text": "Hello.", "finish_reason": "stop"}


def post(client: FlaskClient, path: str = "/v1/jobs", **kept: Any) -> Any:
    headers = kept.pop("headers", {})
    return client.post(path, json={**ASKED, **kept}, headers=headers)


def learn(client: FlaskClient, worker: PlayedWorker, **asked: Any) -> dict[str, Any]:
    """Have a request answered by a worker."""
    job: dict[str, Any] = post(client, **asked).json
    worker.serve("Hel", "lo.", model=asked.get("model", "llama"))
    return job


class Lookups(Hooks):
    def __init__(self) -> None:
        self.found: list[tuple[str, str]] = []

    def result_looked_up(self, model: str, found: str) -> None:
        self.found.append((model, found))


def test_a_hit_is_a_job_that_has_ended(client: FlaskClient, worker: PlayedWorker) -> None:
    first = learn(client, worker)
    answer = post(client, metadata={"k": "v"})
    job = answer.json

    assert answer.status_code == 200 and answer.headers["Location"].endswith(job["id"])
    assert (job["status"], job["cached"], job["output"]) == ("succeeded", True, OUTPUT)
    assert job["id"] != first["id"] and job["metadata"] == {"k": "v"}
    assert job["usage"]["device_seconds"] == 0 and job["usage"]["completion_tokens"] == 2
    again = client.get(f"/v1/jobs/{job['id']}").json
    assert {**again, "urls": None} == {**job, "urls": None}
    assert not client.get(f"/v1/jobs/{first['id']}").json["cached"]


def test_infer_answers_a_hit_at_once(client: FlaskClient, worker: PlayedWorker) -> None:
    learn(client, worker)
    answer = post(client, "/v1/infer")
    assert answer.status_code == 200
    assert (answer.json["cached"], answer.json["output"]) == (True, OUTPUT)


def test_a_stream_of_a_hit_says_the_whole_text(served: PlayedWorker, server: Server) -> None:
    server.request("POST", "/v1/jobs", ASKED)
    served.serve("Hel", "lo.", model="llama")

    with Reader(server, "POST", "/v1/infer/stream", ASKED) as reader:
        frames = reader.frames()

    assert text_of(frames) == "Hello."
    assert [frame.kind for frame in frames] == ["status", "token", "done"]
    assert frames[-1].data["cached"] is True and frames[-1].data["output"] == OUTPUT


def test_no_store_neither_looks_nor_keeps(client: FlaskClient, worker: PlayedWorker) -> None:
    post(client, headers=NO_STORE)
    worker.serve("Hello.", model="llama")
    assert post(client).json["status"] == "queued", "nothing was kept"
    worker.serve("Hello.", model="llama")
    assert post(client, headers=NO_STORE).json["status"] == "queued", "nothing was looked for"
    assert post(client).json["cached"]


@pytest.mark.parametrize(
    ("params", "shared"),
    [
        ({}, True),
        ({"temperature": 0.0, "seed": 7}, True),
        ({"temperature": 1.0, "seed": 7}, True),
        ({"temperature": 1.0}, False),
    ],
)
def test_only_what_is_deterministic_is_shared(
    client: FlaskClient, params: dict[str, Any], shared: bool, app: Flask
) -> None:
    seen = Lookups()
    of(app).observers.add(seen)
    for _ in range(2):
        post(client, params=params)
    assert seen.found == ([("llama", "miss"), ("llama", "shared")] if shared else [])


def test_engines_of_which_nobody_says_so_share_nothing(client: FlaskClient, app: Flask) -> None:
    seen = Lookups()
    of(app).observers.add(seen)
    for model, given in (("echo", "x"), ("own", [1]), ("encoder", "x")):
        key = "prompt" if isinstance(given, str) else "input"
        client.post("/v1/jobs", json={"model": model, key: given})
    assert seen.found == [("encoder", "miss")]


def test_what_is_the_same_is_told_by_meaning(client: FlaskClient, worker: PlayedWorker) -> None:
    learn(client, worker, params={"seed": 3, "max_new_tokens": 64})
    alike = post(client, params={"max_new_tokens": 64.0, "temperature": 0, "top_p": 1.0})
    assert alike.json["cached"]
    assert not post(client, params={"max_new_tokens": 63}).json["cached"]


def test_a_model_whose_files_change_is_another(
    client: FlaskClient, worker: PlayedWorker, catalogue: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shared.domain.models.model_version.FRESH", 0.0)
    learn(client, worker)
    file = catalogue.parent / "weights" / "model.safetensors"
    try:
        file.write_bytes(b"new")
        assert not post(client).json["cached"]
    finally:
        file.unlink()


def test_an_idempotency_key_of_a_hit(client: FlaskClient, worker: PlayedWorker) -> None:
    learn(client, worker)
    key = {"Idempotency-Key": "k"}
    first, second = (post(client, headers=key) for _ in range(2))
    assert (first.status_code, second.status_code) == (200, 200)
    assert second.headers["Idempotent-Replayed"] == "true"
    assert second.json["id"] == first.json["id"] and second.json["cached"]


def test_identical_requests_wait_for_one_execution(
    client: FlaskClient, app: Flask, worker: PlayedWorker
) -> None:
    answers: list[Any] = []

    def ask() -> None:
        with app.test_client() as own:
            own.environ_base["HTTP_AUTHORIZATION"] = AUTH["Authorization"]
            answers.append(post(own, "/v1/infer").json)

    threads = [threading.Thread(target=ask) for _ in range(5)]
    for thread in threads:
        thread.start()
    eventually(lambda: len(client.get("/v1/jobs").json["data"]) == 5, what="all have asked")
    worker.serve("Hel", "lo.", model="llama")
    for thread in threads:
        thread.join(20)

    assert [answer["output"] for answer in answers] == [OUTPUT] * 5
    assert sorted(answer["cached"] for answer in answers) == [False, True, True, True, True]
    assert len({answer["id"] for answer in answers}) == 5


def test_each_follower_has_a_stream_of_its_own(served: PlayedWorker, server: Server) -> None:
    with (
        Reader(server, "POST", "/v1/infer/stream", ASKED) as one,
        Reader(server, "POST", "/v1/infer/stream", ASKED) as other,
    ):
        one.until("status"), other.until("status")
        claim = served.take("llama")
        served.say(claim, 1, "Hel")
        live = [reader.until("token").data["text"] for reader in (one, other)]
        served.say(claim, 2, "lo.")
        served.end(claim, output=OUTPUT)
        rests = [reader.frames() for reader in (one, other)]

    assert live == ["Hel", "Hel"], "as it is said, not at the end"
    assert [text_of(rest) for rest in rests] == ["lo.", "lo."]
    assert {rest[-1].data["status"] for rest in rests} == {"succeeded"}


@pytest.fixture
def in_memory(settings: Settings, store: JobStore, rings: Rings) -> Iterator[FlaskClient]:
    """A client of an app that keeps results itself."""
    kept = settings.model_copy(update={"cache_backend": "memory"})
    app = create_app(kept, store=store, ring=rings)
    client = app.test_client()
    client.environ_base["HTTP_AUTHORIZATION"] = AUTH["Authorization"]
    yield client
    of(app).close()


def test_what_this_process_has_read_is_used_again(
    in_memory: FlaskClient, worker: PlayedWorker, store: JobStore
) -> None:
    job = learn(in_memory, worker)
    assert not post(in_memory).json["cached"], "nobody has read it here"
    worker.serve("Hello.", model="llama")
    in_memory.get(f"/v1/jobs/{job['id']}")

    answer = post(in_memory)

    assert (answer.json["cached"], answer.json["output"]) == (True, OUTPUT)
    assert not list(store.redis.scan_iter(store.keys("cached", "*")))


def test_what_is_deleted_is_forgotten(in_memory: FlaskClient, worker: PlayedWorker) -> None:
    job = learn(in_memory, worker)
    in_memory.get(f"/v1/jobs/{job['id']}")
    in_memory.delete(f"/v1/jobs/{job['id']}")
    assert not post(in_memory).json["cached"]


@pytest.fixture
def frail(tmp_path: Path, catalogue: Path) -> Iterator[tuple[RedisServer, Server]]:
    redis = RedisServer(tmp_path)
    redis.start()
    server = Server(catalogue, redis.url, "away").start()
    yield redis, server
    server.stop()
    redis.stop()


def test_without_redis_a_process_answers_what_it_has_seen(
    frail: tuple[RedisServer, Server],
) -> None:
    redis, server = frail
    worker = PlayedWorker(JobStore(connect(redis.url, 5.0), "away"))
    replies: list[Reply] = []
    asking = threading.Thread(
        target=lambda: replies.append(server.request("POST", "/v1/infer", ASKED))
    )
    asking.start()
    worker.serve("Hel", "lo.", model="llama")
    asking.join(20)
    assert replies[0].json["output"] == OUTPUT and not replies[0].json["cached"]
    redis.stop()

    found = server.request("POST", "/v1/infer", ASKED)

    assert found.status == 200
    assert (found.json["cached"], found.json["output"]) == (True, OUTPUT)
    assert found.json["usage"]["device_seconds"] == 0
    others: list[tuple[str, Any, dict[str, str]]] = [
        ("/v1/jobs", ASKED, {}),
        ("/v1/infer", {**ASKED, "prompt": "another"}, {}),
        ("/v1/infer", ASKED, NO_STORE),
        ("/v1/infer", ASKED, {"Idempotency-Key": "k"}),
    ]
    # Each waits for Redis first: all at once.
    with ThreadPoolExecutor(len(others)) as threads:
        refusals = list(threads.map(lambda asked: server.request("POST", *asked), others))
    for refused in refusals:
        assert (refused.status, refused.json["code"]) == (503, "redis_unavailable")
