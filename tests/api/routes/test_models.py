import msgspec
import pytest
from flask.testing import FlaskClient
from jsonschema import Draft202012Validator

from api.routes.models import ModelDetail, ModelList
from shared.settings import Settings, key_secret
from shared.store.api_key_tokens import Signer
from shared.store.api_keys import ApiKeys, Grant, Scope
from shared.store.jobs import JobStore
from tests.api.conftest import PlayedWorker


def test_every_model_of_the_catalogue_is_listed(client: FlaskClient) -> None:
    listed = ModelList.model_validate(client.get("/v1/models").json)

    models = {model.id: model for model in listed.data}
    assert list(models) == ["echo", "full", "llama", "encoder", "ranker", "own"]
    assert models["llama"].engine == "text-generation"
    assert models["llama"].limits.max_new_tokens == 64
    assert models["full"].limits.max_queued == 1
    assert {model.state for model in listed.data} == {"offline"}


def test_a_model_shows_its_parts_and_the_form_of_its_output(
    client: FlaskClient, store: JobStore
) -> None:
    silent = ModelDetail.model_validate(client.get("/v1/models/encoder").json)
    parts = {"pooling": ["mean"], "prompts": {"query": "query: "}, "dimensions": 384}
    engine = {"device": "cpu", "parts": parts}
    store.beat("encoder", "w", msgspec.json.encode({"state": "ready", "engine": engine}), [])

    loaded = ModelDetail.model_validate(client.get("/v1/models/encoder").json)

    assert silent.parts is None and loaded.parts == parts
    schema = loaded.schemas.output
    Draft202012Validator(schema).validate({"embeddings": [[0.5]], "dimensions": 1})
    Draft202012Validator(schema).validate(
        {"embeddings": ["AAAAPw=="], "dimensions": 1, "encoding": "base64"}
    )
    assert not Draft202012Validator(schema).is_valid({"text": "x"})
    assert set(loaded.schemas.params["properties"]) >= {"dimensions", "truncate", "task", "prompt"}


def test_a_model_shows_its_workers_and_its_queue(
    client: FlaskClient, store: JobStore, worker: PlayedWorker
) -> None:
    for name, state in (("w1", "starting"), ("w2", "busy")):
        context = {"w1": 4096, "w2": 2048}[name]
        engine = {
            "device": "cuda:0",
            "batching": "static",
            "reason": "it has a window",
            "context": context,
        }
        said = {"state": state, "engine": engine, "active": 3, "capacity": 32}
        store.beat("echo", name, msgspec.json.encode(said), [])
    for _ in range(3):
        client.post("/v1/jobs", json={"model": "echo", "prompt": "x"})
    worker.take()

    echo = ModelList.model_validate(client.get("/v1/models").json).data[0]

    assert (echo.state, echo.device) == ("busy", "cuda:0")
    assert (echo.queue_depth, echo.running) == (2, 1)
    assert echo.context == 2048, "that of the worker that takes the least"
    assert [worker["name"] for worker in echo.workers] == ["w1", "w2"]
    assert echo.workers[1]["capacity"] == 32
    assert echo.workers[1]["engine"]["batching"] == "static"
    assert echo.workers[1]["engine"]["reason"] == "it has a window"


def test_no_path_of_the_server_is_told(client: FlaskClient) -> None:
    assert "weights" not in client.get("/v1/models").text


def test_a_model_says_what_its_jobs_take(client: FlaskClient) -> None:
    llama = ModelDetail.model_validate(client.get("/v1/models/llama").json)
    own = ModelDetail.model_validate(client.get("/v1/models/own").json)

    assert llama.id == "llama"
    assert llama.schemas.params["properties"]["max_new_tokens"]["maximum"] == 64
    assert llama.schemas.params["additionalProperties"] is False
    assert own.schemas.params["type"] == "object"
    assert "properties" not in own.schemas.params, "its engine alone knows"


def test_a_model_that_is_not_there_is_named(client: FlaskClient) -> None:
    response = client.get("/v1/models/nope")

    assert response.status_code == 404
    assert response.json["code"] == "unknown_model"


@pytest.mark.parametrize(
    ("tenant", "scopes", "operates"),
    [
        ("default", {Scope.ADMIN}, True),
        ("default", {Scope.JOBS_READ}, False),
        ("other", {Scope.JOBS_READ}, False),
        ("other", set(Scope), False),
    ],
)
def test_machines_and_processes_are_shown_to_the_operator_alone(
    anonymous: FlaskClient,
    settings: Settings,
    store: JobStore,
    tenant: str,
    scopes: set[Scope],
    operates: bool,
) -> None:
    _, token = ApiKeys(store.redis, store.keys, Signer(key_secret(settings))).create(
        Grant(tenant, frozenset(scopes))
    )
    for name in ("echo@machine-7-a1", "echo@machine-8-b2"):
        place = {"host": "machine-7", "pid": 4711, "engine_pid": 4712}
        said = {"state": "ready", "active": 3, "engine": {"device": "cuda:0"}, **place}
        store.beat("echo", name, msgspec.json.encode(said), [])

    answer = anonymous.get("/v1/models", headers={"Authorization": f"Bearer {token}"})

    echo = ModelList.model_validate(answer.json).data[0]
    assert [worker["active"] for worker in echo.workers] == [3, 3]
    assert ("machine" in answer.text) is operates
    assert ("4711" in answer.text, "4712" in answer.text) == (operates, operates)
    names = ["echo@machine-7-a1", "echo@machine-8-b2"] if operates else ["1", "2"]
    assert [worker["name"] for worker in echo.workers] == names
