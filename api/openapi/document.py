"""The OpenAPI 3.1 document, made from the route table and the pydantic schemas."""

from collections.abc import Iterable
from typing import Any, Literal

import msgspec
from flask import Flask, current_app
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from api.about import NAME, VERSION
from api.http.answers import answer
from api.http.caller import Access
from api.http.errors import MEDIA_TYPE, RETRY_AFTER, Problem
from api.http.operations import TABLE, Answer, Operation, Operations, Parameter
from api.http.reply import Reply
from api.http.request_context import RequestContext
from api.openapi.example_models import ExampleModels
from api.openapi.request_schema import (
    JSON_INPUT,
    by_model,
    job_request,
    json_input,
    of_json_input,
    without_defaults,
)
from api.services import of
from shared.domain.errors import PROBLEMS
from shared.domain.models.catalog import Catalog
from shared.domain.schemas import Job

_DOCUMENT = "truthgpt.openapi"
_REF = "#/components/schemas/{model}"
JOB_PATH = "{job_id}"
_TAGS = {
    "jobs": "A job is one inference request that outlives the HTTP call that made it.",
    "streams": "What a job says while it runs, as server-sent events.",
    "infer": "Inference on one connection, for callers that want to wait.",
    "openai": "What clients of OpenAI's API call; each call is a job. docs/openai.md says what differs.",
    "openai webhooks": "Where events of responses and batches are sent, as OpenAI's clients manage it.",
    "replicate": "What clients of Replicate's API call; a prediction is a job: docs/replicate.md.",
    "dead letters": "Jobs that failed for no fault of their input, kept for another try.",
    "webhooks": "Jobs that are told to a URL, and jobs that a signed message makes.",
    "models": "What is served.",
    "keys": "API keys, for the server's administrator.",
    "audit": "Which changes administrators have made, and who signed in at the console.",
    "health": "Probes, and this documentation. They need no token.",
}

openapi = Operations("openapi", __name__, tag="health")


@openapi.operation(
    "GET",
    "/openapi.json",
    access=Access.OPEN,
    answers={200: Answer("OpenAPI 3.1.", example={"openapi": "3.1.0"})},
)
def openapi_document(_here: RequestContext) -> Reply:
    """This interface, described for machines"""
    return answer(cached_document(current_app))


def cached_document(app: Flask) -> bytes:
    """The document as JSON; made at the first call."""
    made: bytes | None = app.extensions.get(_DOCUMENT)
    if made is None:
        made = msgspec.json.encode(
            describe(app.extensions[TABLE], of(app).catalog, of(app).settings.public_url)
        )
        app.extensions[_DOCUMENT] = made
    return made


def describe(
    table: Iterable[Operation], catalog: Catalog, public_url: str | None = None
) -> dict[str, Any]:
    """The document for a route table and the models that are served, at `public_url` where it is known."""
    operations = list(table)
    on_jobs = [operation.name for operation in operations if JOB_PATH in operation.path]
    schemas = _schemas(operations)
    any_json = _REF.format(model=JSON_INPUT)
    schemas[JSON_INPUT] = json_input(any_json)
    schemas["JobRequest"] = job_request(schemas["JobRequest"], catalog, any_json)
    models = ExampleModels(catalog)
    paths: dict[str, dict[str, Any]] = {}
    for operation in operations:
        described = _operation(operation, models)
        for status, good in operation.answers.items():
            if links := _links(good, on_jobs):
                described["responses"][str(status)]["links"] = links
        paths.setdefault(operation.path, {})[operation.method.lower()] = described
    return {
        "openapi": "3.1.0",
        "info": {
            "title": NAME,
            "version": VERSION,
            "summary": "A durable, queue-backed job system for model inference.",
            "description": "Submit, poll, stream; nothing accepted is lost. Errors are RFC 9457 "
            "problem documents; their `code` is stable.",
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "servers": [{"url": public_url or "/", "description": "This server."}],
        "tags": [{"name": name, "description": text} for name, text in _TAGS.items()],
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {
                "token": {"type": "http", "scheme": "bearer"},
                "ticket": {"type": "apiKey", "in": "query", "name": "ticket"},
            },
        },
        "x-models": by_model(catalog),
    }


def _operation(operation: Operation, models: ExampleModels) -> dict[str, Any]:
    described: dict[str, Any] = {
        "operationId": operation.name,
        "tags": [operation.tag],
        "summary": operation.summary,
        "description": operation.description,
        "security": _security(operation.access),
        "parameters": [
            _parameter(parameter, models)
            for parameter in operation.parameters
            if parameter.published
        ],
        "responses": _responses(operation, models),
    }
    if operation.body is not None:
        described["requestBody"] = {
            "required": True,
            "content": {
                operation.body_media: {
                    "schema": _ref(operation.body),
                    "examples": {
                        name: {"value": value}
                        for name, value in models.bodies(operation.body_examples).items()
                    },
                }
            },
        }
    return described


def _security(access: Access) -> list[dict[str, list[str]]]:
    match access:
        case Access.OPEN:
            return []
        case Access.TOKEN | Access.METRICS:
            return [{"token": []}]
        case Access.TICKET:
            return [{"token": []}, {"ticket": []}]


def _parameter(parameter: Parameter, models: ExampleModels) -> dict[str, Any]:
    described = {
        "name": parameter.name,
        "in": parameter.place,
        "description": parameter.description,
        "required": parameter.place == "path",
        "schema": dict(parameter.schema),
    }
    if parameter.example is not None:
        described["example"] = models.named(parameter.example)
    return described


def _responses(operation: Operation, models: ExampleModels) -> dict[str, Any]:
    found = {str(status): _answer(good, models) for status, good in operation.answers.items()}
    codes = list(operation.problems)
    if operation.access is not Access.OPEN:
        codes += ["unauthorized", "forbidden", "rate_limited", "redis_unavailable"]
    codes += ["bad_request", "internal_error"]
    by_status: dict[int, list[str]] = {}
    for code in dict.fromkeys(codes):
        by_status.setdefault(_status_of(operation, code), []).append(code)
    found |= {
        str(status): _problems(operation, names) for status, names in sorted(by_status.items())
    }
    return found


def _status_of(operation: Operation, code: str) -> int:
    if operation.dialect is None:
        return PROBLEMS[code].status
    return operation.dialect.status_of(code)


def _answer(good: Answer, models: ExampleModels) -> dict[str, Any]:
    described: dict[str, Any] = {"description": good.description}
    if good.headers:
        described["headers"] = {
            name: {"description": text, "schema": {"type": "string"}}
            for name, text in good.headers.items()
        }
    if good.model is not None or good.example is not None:
        schema = _ref(good.model) if good.model is not None else {}
        shown: dict[str, Any] = {"schema": schema, "example": models.named(good.example)}
        if good.events:
            shown["x-events"] = {name: _ref(model) for name, model in good.events.items()}
        described["content"] = {good.media: shown}
    return described


def _links(good: Answer, on_jobs: list[str]) -> dict[str, Any]:
    """What may be called next about the job in an answer."""
    if good.model is not Job:
        return {}
    return {
        name: {"operationId": name, "parameters": {"job_id": "$response.body#/id"}}
        for name in on_jobs
    }


def _problems(operation: Operation, codes: list[str]) -> dict[str, Any]:
    dialect, media, model = operation.dialect, MEDIA_TYPE, _ref(Problem)
    examples = {code: _example(code) for code in codes}
    if dialect is not None:
        media, model = dialect.media, _ref(dialect.model)
        examples = {code: dict(dialect.told(example)) for code, example in examples.items()}
    shown = {code: {"value": example} for code, example in examples.items()}
    described: dict[str, Any] = {
        "description": "; ".join(f"`{code}`: {PROBLEMS[code].title}" for code in codes) + ".",
        "content": {media: {"schema": model, "examples": shown}},
    }
    if any(code in RETRY_AFTER for code in codes):
        described["headers"] = {
            "Retry-After": {"description": "Seconds.", "schema": {"type": "integer"}}
        }
    return described


def _example(code: str) -> dict[str, Any]:
    known = PROBLEMS[code]
    return {
        "type": f"/problems/{code.replace('_', '-')}",
        "title": known.title,
        "status": known.status,
        "detail": f"{known.title}.",
        "code": code,
        "request_id": "req_6f1c2a9be04d4b7f8a3e5d21",
    }


def _schemas(operations: list[Operation]) -> dict[str, Any]:
    sent = _by_name(operation.body for operation in operations)
    answers = [good for operation in operations for good in operation.answers.values()]
    given = _by_name(good.model for good in answers)
    given += _by_name(model for good in answers for model in good.events.values())
    given += _by_name(op.dialect.model for op in operations if op.dialect is not None)
    given.append(Problem)
    wanted: list[tuple[type[BaseModel], Literal["validation", "serialization"]]] = []
    wanted += [(model, "validation") for model in sent]
    wanted += [(model, "serialization") for model in given]
    _, described = models_json_schema(wanted, ref_template=_REF)
    _, requests = models_json_schema([(model, "validation") for model in sent])
    schemas: dict[str, Any] = described["$defs"]
    own = [name for name in requests["$defs"] if "properties" in schemas[name]]
    any_json = {"$ref": _REF.format(model=JSON_INPUT)}
    return schemas | {
        name: of_json_input(without_defaults(schemas[name]), any_json) for name in own
    }


def _by_name(models: Iterable[type[BaseModel] | None]) -> list[type[BaseModel]]:
    return sorted({m for m in models if m is not None}, key=lambda model: str(model.__name__))


def _ref(model: type[BaseModel]) -> dict[str, str]:
    return {"$ref": _REF.format(model=model.__name__)}
