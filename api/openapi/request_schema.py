"""The schema of a job request as this server takes it.

`JobRequest` itself is a plain object, so that code generators make one type of it. What only a validator can
use stands in keywords that generators pass over (`if`, `then`, `else`, `dependentSchemas`): exactly one
of `prompt` and `input`, and which params and input each model takes. The same, a JSON schema a model, stands
under `x-models` and in `GET /v1/models/{model}`.
"""

import json
from collections.abc import Mapping
from typing import Any

from pydantic import TypeAdapter

from api.http.body_bounds import MAX_INTEGER
from shared.domain.models.catalog import Catalog, ModelSpec
from shared.domain.outputs import OUTPUTS
from shared.domain.pipeline_outputs import PIPELINE_OUTPUTS
from shared.domain.requests.inputs import ID_KINDS, TOKEN_IDS_SCHEMA
from shared.domain.requests.params import INPUTS, PARAMS, TEXT_ENGINES
from shared.domain.wire import NULL, or_null

DIALECT = "https://json-schema.org/draft/2020-12/schema"
_ONE_INPUT = {
    "if": {"required": ["prompt"], "properties": {"prompt": {"not": NULL}}},
    "then": {"properties": {"input": NULL}},
    "else": {"required": ["input"], "properties": {"input": {"not": NULL}}},
}
"""One that is null is left out."""
_OBJECT: dict[str, Any] = {"type": "object"}
_TEXT: dict[str, Any] = {"type": "string"}
JSON_INPUT = "JsonInput"


def json_input(reference: str) -> dict[str, Any]:
    """The schema of any JSON that a request may hold; `reference` is where it stands."""
    itself = {"$ref": reference}
    return {
        "description": "Any JSON. Integers fit into 64 bits.",
        "if": {"type": "integer"},
        "then": {"minimum": -MAX_INTEGER, "maximum": MAX_INTEGER},
        "else": {
            "if": {"type": "array", "items": {}},  # Linters want "items" beside the word.
            "then": {"items": itself},
            "else": {"if": _OBJECT, "then": {"additionalProperties": itself}},
        },
    }


def of_json_input(schema: Any, any_json: Mapping[str, Any]) -> Any:
    """A schema whose objects with members of any name hold `any_json`, what a request may hold of JSON."""
    if isinstance(schema, list):
        return [of_json_input(one, any_json) for one in schema]
    if not isinstance(schema, Mapping):
        return schema
    found = {name: of_json_input(one, any_json) for name, one in schema.items()}
    loose = found.get("additionalProperties", True) is True and "properties" not in found
    if found.get("type") == "object" and loose:
        found["additionalProperties"] = dict(any_json)
    return found


def job_request(plain: Mapping[str, Any], catalog: Catalog, json_reference: str) -> dict[str, Any]:
    """The schema of `JobRequest` for the models of a catalogue, made of pydantic's `plain` one.

    `json_reference` is where the schema of any JSON stands.
    """
    any_json = {"$ref": json_reference}
    properties = dict(plain["properties"])
    properties["input"] = {**any_json, "description": properties["input"]["description"]}
    properties["model"] = {**properties["model"], "examples": [spec.name for spec in catalog]}
    properties["params"] = {
        **or_null({**_OBJECT, "additionalProperties": any_json}),
        "description": "What the model's engine takes: see `x-models`, or `GET /v1/models/{model}`.",
    }
    if not any(spec.engine in TEXT_ENGINES for spec in catalog):
        about = properties["prompt"]["description"]
        properties["prompt"] = {**or_null(_TEXT), "description": about}
    taken: dict[str, Any] = {}
    for spec in reversed(list(catalog)):
        made = {"prompt": _prompt_schema(spec), **model_schemas(spec)}
        taken = {
            "if": {"properties": {"model": {"const": spec.name}}},
            "then": {"properties": {name: or_null(member) for name, member in made.items()}},
            "else": taken,
        }
    return {
        **plain,
        "properties": properties,
        **_ONE_INPUT,
        "dependentSchemas": {"model": taken},
    }


def model_schemas(spec: ModelSpec) -> dict[str, dict[str, Any]]:
    """JSON schemas of a model's `params` and `input`, each complete in itself.

    An engine of one's own takes any object and any JSON.
    """
    params, content = PARAMS.get(spec.engine), INPUTS.get(spec.engine)
    taken: dict[str, Any] = dict(_OBJECT) if params is None else _whole(params)
    read = {} if content is None else _whole(content)
    if spec.engine in TEXT_ENGINES:
        for name in ("max_new_tokens", "min_tokens"):
            taken["properties"][name]["maximum"] = spec.limits.max_new_tokens
        for kind in read.get("oneOf", ()):
            if kind.get("type") == "array":
                kind["maxItems"] = spec.limits.max_prompt_tokens
    if spec.engine == "embedding" and not spec.token_ids:
        read["oneOf"] = read["oneOf"][:-ID_KINDS]
    return {"params": taken, "input": read}


def _prompt_schema(spec: ModelSpec) -> dict[str, Any]:
    """A text; where the engine generates text also its token ids."""
    if spec.engine not in TEXT_ENGINES:
        return _TEXT
    ids = {**TOKEN_IDS_SCHEMA, "maxItems": spec.limits.max_prompt_tokens}
    return {"anyOf": [_TEXT, ids]}


def output_schema(spec: ModelSpec) -> dict[str, Any]:
    """JSON schema of what a model's jobs answer, a pipeline's by its task; {} for an engine of one's own."""
    made = OUTPUTS.get(spec.engine)
    if spec.engine == "pipeline":
        made = PIPELINE_OUTPUTS.get(str(spec.options.get("task")))
    return {} if made is None else _whole(made)


def by_model(catalog: Catalog) -> dict[str, Any]:
    """`x-models`: the engine of each model, and the schemas of what it takes."""
    return {
        spec.name: {
            "engine": spec.engine,
            **{name: {"$schema": DIALECT, **made} for name, made in model_schemas(spec).items()},
        }
        for spec in catalog
    }


def without_defaults(schema: Mapping[str, Any]) -> dict[str, Any]:
    """A request's schema with each member's default in its description instead.

    openapi-typescript makes members that have a default required, of requests too.
    """
    members = {}
    for name, member in schema["properties"].items():
        members[name] = kept = {key: value for key, value in member.items() if key != "default"}
        if member.get("default") is not None:
            default = member["default"]
            told = default if isinstance(default, str) else json.dumps(default)
            kept["description"] = f"{member.get('description', '')} Default: {told}.".strip()
    return {**schema, "properties": members}


def _whole(adapter: TypeAdapter[Any]) -> dict[str, Any]:
    """A schema with all that it refers to put in its place; none of ours refers to itself."""
    schema = adapter.json_schema()
    defined = schema.pop("$defs", {})
    whole = _resolved(schema, defined)
    assert isinstance(whole, dict)
    return whole


def _resolved(part: Any, defined: dict[str, Any]) -> Any:
    if isinstance(part, list):
        return [_resolved(one, defined) for one in part]
    if not isinstance(part, dict):
        return part
    if "$ref" in part:
        beside = {name: value for name, value in part.items() if name != "$ref"}
        return {**_resolved(defined[part["$ref"].removeprefix("#/$defs/")], defined), **beside}
    return {name: _resolved(value, defined) for name, value in part.items()}
