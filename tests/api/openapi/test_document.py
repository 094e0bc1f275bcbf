import functools
import json
import re
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from jsonschema import Draft202012Validator
from pydantic import TypeAdapter

from api.app import create_app
from api.console.guard import NAME as CONSOLE
from api.http.errors import Problem
from api.http.operations import JSON, Operation
from api.openapi.document import TABLE
from api.openapi.request_schema import DIALECT
from api.services import of
from shared.domain.errors import PROBLEMS
from shared.settings import Settings, load_settings
from tests.api.conftest import TOKEN
from tests.conftest import RedisServer


@pytest.fixture(scope="module")
def document(catalogue: Path, redis_server: RedisServer) -> Any:
    """Of the catalogue of all tests here; no test changes it."""
    settings = load_settings(
        TRUTHGPT_API_TOKEN=TOKEN, TRUTHGPT_CONFIG=catalogue, REDIS_URL=redis_server.url
    )
    app = create_app(settings)
    response = app.test_client().get("/openapi.json")
    of(app).close()
    assert response.content_type == "application/json"
    return response.json


@pytest.fixture
def table(app: Flask) -> tuple[Operation, ...]:
    found: tuple[Operation, ...] = app.extensions[TABLE]
    return found


def test_the_document_describes_exactly_the_routes(app: Flask, document: Any) -> None:
    routed = {
        (re.sub(r"<(\w+)>", r"{\1}", rule.rule), method.lower())
        for rule in app.url_map.iter_rules()
        if not rule.endpoint.startswith(f"{CONSOLE}.")  # Pages for people are no interface.
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
    }
    described = {(path, method) for path, item in document["paths"].items() for method in item}

    assert document["openapi"] == "3.1.0"
    assert described == routed


def test_every_reference_leads_somewhere(document: Any) -> None:
    references = set(re.findall(r'"\$ref": "#/components/schemas/([^"]+)"', json.dumps(document)))

    assert {"JobRequest", "Job", "Problem", "WebhookRequest"} <= references
    assert references <= set(document["components"]["schemas"])


def test_integers_of_requests_say_that_64_bits_bound_them(document: Any) -> None:
    """A body with a larger one is refused (api/http/body_bounds.py): a client could not know it."""
    unbounded, seen = [], set()

    def look(schema: Any, place: str) -> None:
        if isinstance(schema, dict):
            reference = schema.get("$ref", "")
            if isinstance(reference, str) and reference.startswith("#/") and reference not in seen:
                seen.add(reference)
                look(
                    functools.reduce(dict.__getitem__, reference[2:].split("/"), document),
                    reference,
                )
            if schema.get("type") == "integer" and not {"minimum", "maximum"} <= set(schema):
                unbounded.append(place)
            for name, one in schema.items():
                look(one, f"{place}/{name}")
        elif isinstance(schema, list):
            for one in schema:
                look(one, place)

    for path, item in document["paths"].items():
        for operation in item.values():
            look(operation.get("requestBody"), path)
            look(operation.get("parameters"), path)

    assert unbounded == ["#/components/schemas/JsonInput/if"], (
        "that one's bounds stand under `then`"
    )


def test_a_model_has_a_name_and_parameters_have_identifiers_of_their_own(document: Any) -> None:
    """Or generators of clients leave models and operations out."""
    assert [name for name in document["components"]["schemas"] if "__" in name] == []
    for path, item in document["paths"].items():
        for method, operation in item.items():
            names = [re.sub(r"\W", "", p["name"]) for p in operation["parameters"]]
            assert len(names) == len(set(names)), (path, method)


def test_every_operation_is_explained_with_examples(document: Any) -> None:
    for path, item in document["paths"].items():
        for method, operation in item.items():
            assert operation["summary"], (path, method)
            assert operation["operationId"]
            assert set(operation["tags"]) <= {tag["name"] for tag in document["tags"]}
            in_path = {p["name"] for p in operation["parameters"] if p["in"] == "path"}
            assert in_path == set(re.findall(r"{(\w+)}", path))
            if "requestBody" in operation:
                (content,) = operation["requestBody"]["content"].values()
                assert content["examples"]
            for status, response in operation["responses"].items():
                for media in response.get("content", {}).values():
                    assert media.get("example") or media.get("examples") or path == "/docs", status


def test_the_examples_fit_their_schemas(table: tuple[Operation, ...]) -> None:
    for operation in table:
        for value in operation.body_examples.values():
            assert operation.body is not None
            operation.body.model_validate(value)
        for answer in operation.answers.values():
            if answer.model is not None:
                TypeAdapter(answer.model).validate_python(answer.example)


def test_problems_are_described_by_code(document: Any) -> None:
    responses = document["paths"]["/v1/jobs"]["post"]["responses"]

    assert {"202", "200", "400", "401", "404", "413", "415", "422", "503"} <= set(responses)
    busy = responses["503"]["content"]["application/problem+json"]
    assert {"queue_full", "tenant_queue_full", "redis_unavailable"} <= set(busy["examples"])
    assert "rate_limited" in responses["429"]["content"]["application/problem+json"]["examples"]
    assert "Retry-After" in responses["503"]["headers"]
    for name, example in busy["examples"].items():
        assert Problem.model_validate(example["value"]).status == PROBLEMS[name].status


def test_security_is_told(document: Any) -> None:
    paths = document["paths"]

    assert paths["/health"]["get"]["security"] == []
    assert paths["/v1/jobs"]["post"]["security"] == [{"token": []}]
    events = paths["/v1/jobs/{job_id}/events"]["get"]["security"]
    assert events == [{"token": []}, {"ticket": []}]


def test_every_answer_with_a_job_links_to_what_can_be_done_with_it(
    document: Any, table: tuple[Operation, ...]
) -> None:
    on_jobs = {operation.name for operation in table if "{job_id}" in operation.path}
    linked = [
        response["links"]
        for item in document["paths"].values()
        for operation in item.values()
        for response in operation["responses"].values()
        if "links" in response
    ]

    assert {"get_job", "job_events", "cancel_job", "delete_job"} <= on_jobs
    assert len(linked) >= 6
    for links in linked:
        assert {link["operationId"] for link in links.values()} == on_jobs
        assert all(
            link["parameters"] == {"job_id": "$response.body#/id"} for link in links.values()
        )


def test_a_request_is_a_plain_object_to_generators(document: Any) -> None:
    """Unions at the top, or bounds beside a reference, are what they drop or mistake."""
    request = document["components"]["schemas"]["JobRequest"]

    assert request["type"] == "object"
    assert request["required"] == ["model"]
    assert not {"anyOf", "oneOf", "allOf"} & set(request)
    assert request["properties"]["params"]["anyOf"][0]["type"] == "object"
    assert request["properties"]["model"]["examples"] == [
        "echo",
        "full",
        "llama",
        "encoder",
        "ranker",
        "own",
    ]


def test_what_each_model_takes_stands_under_x_models(document: Any) -> None:
    models = document["x-models"]

    assert list(models) == ["echo", "full", "llama", "encoder", "ranker", "own"]
    assert models["llama"]["params"]["properties"]["max_new_tokens"]["maximum"] == 64
    assert "normalize" in models["encoder"]["params"]["properties"]
    assert models["own"]["params"] == {"$schema": DIALECT, "type": "object"}
    for model in models.values():
        for schema in (model["params"], model["input"]):
            Draft202012Validator.check_schema(schema)
            assert "$ref" not in json.dumps(schema), "it is complete in itself"


@pytest.mark.parametrize(
    ("body", "valid"),
    [
        ({"model": "echo", "prompt": "x"}, True),
        ({"model": "echo", "input": "x", "params": {"repeat": 2}}, True),
        ({"model": "echo"}, False),
        ({"model": "echo", "prompt": "x", "input": "x"}, False),
        ({"model": "echo", "prompt": "x", "input": None, "params": None}, True),
        ({"model": "echo", "prompt": None, "input": "x", "params": {"repeat": None}}, True),
        ({"model": "echo", "prompt": None}, False),
        ({"model": "llama", "prompt": "x", "params": {"stop": "one"}}, True),
        ({"model": "echo", "prompt": "x", "params": {"temperature": 1}}, False),
        ({"model": "llama", "prompt": "x", "params": {"temperature": 1}}, True),
        ({"model": "llama", "prompt": "x", "params": {"max_new_tokens": 65}}, False),
        ({"model": "llama", "input": {"messages": [{"role": "user", "content": "x"}]}}, True),
        ({"model": "encoder", "input": {"messages": []}}, False),
        ({"model": "encoder", "input": ["x", "y"], "params": {"normalize": False}}, True),
        ({"model": "own", "input": [1, {"a": None}], "params": {"any": {"thing": 1}}}, True),
        ({"model": "own", "input": 1, "extra": 2}, False),
    ],
)
def test_a_validator_knows_what_this_server_takes(
    document: Any, client: FlaskClient, body: Any, valid: bool
) -> None:
    """The document and the server agree, for every model and the one-of rule."""
    validator = Draft202012Validator({"$ref": "#/components/schemas/JobRequest", **document})

    assert validator.is_valid(body) is valid
    assert (client.post("/v1/jobs", json=body).status_code == 202) is valid


def test_the_examples_name_models_that_are_served(
    document: Any, settings: Settings, client: FlaskClient
) -> None:
    bodies = document["paths"]["/v1/jobs"]["post"]["requestBody"]["content"][JSON]["examples"]

    served = {spec.name for spec in settings.catalog}
    assert {body["value"]["model"] for body in bodies.values()} == {
        "llama",
        "encoder",
        "ranker",
        "echo",
        "own",
    }
    del bodies["webhook"]  # Its host's name may not resolve here.
    assert {client.post("/v1/jobs", json=b["value"]).status_code for b in bodies.values()} == {202}
    text = json.dumps(document)
    assert "demo-llama" not in text and "all-minilm" not in text
    answered = document["paths"]["/v1/models"]["get"]["responses"]["200"]["content"][JSON][
        "example"
    ]
    assert answered["data"][0]["id"] in served


def test_where_the_server_is_is_told(document: Any) -> None:
    assert document["servers"] == [{"url": "/", "description": "This server."}]
