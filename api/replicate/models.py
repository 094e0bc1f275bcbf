"""The models of the catalogue as Replicate's API describes them: `truthgpt/NAME`, of one version each."""

from collections.abc import Mapping
from typing import Any

from api.openapi.request_schema import model_schemas, output_schema
from shared.domain.errors import UnknownModel
from shared.domain.models.catalog import Catalog, ModelSpec
from shared.domain.predictions import OWNER, full_name, version_id
from shared.domain.requests.params import ENGINES
from shared.domain.schemas import rfc3339

COG_VERSION = "0.9.0"
"""Clients ask it whether an array in a schema of outputs is a stream; from 0.3.9 on the schema says so."""
CONTENT: Mapping[str, str] = {"embedding": "input", "ranking": "input", "pipeline": "input"}
"""By engine: the member of a prediction's `input` that is the job's own input; else `prompt`."""


def find(catalog: Catalog, owner: str, name: str) -> ModelSpec:
    """The model of this owner and name. Raises `UnknownModel`."""
    if owner != OWNER:
        raise UnknownModel(
            f"There is no owner {owner[:80]!r} here: models are called {OWNER}/NAME, by the names of GET "
            "/v1/models."
        )
    return catalog.get(name)


def of_version(catalog: Catalog, version: str) -> ModelSpec:
    """The model of a version, which is given by its id, as `owner/name` or as `owner/name:id`.

    Raises `UnknownModel`.
    """
    named, _, identity = version.rpartition(":")
    if "/" in version:
        owner, _, name = (named or identity).partition("/")
        spec = find(catalog, owner, name)
        if named and identity != version_id(name):
            raise unknown_version(identity)
        return spec
    for spec in catalog:
        if version_id(spec.name) == version:
            return spec
    raise unknown_version(version)


def unknown_version(version: str) -> UnknownModel:
    return UnknownModel(
        f"No model has the version {version[:80]!r}. GET /v1/models/{OWNER}/NAME has that of each model."
    )


def streams_text(spec: ModelSpec) -> bool:
    """Whether the model's output is text that comes in pieces."""
    kind = ENGINES.get(spec.engine)
    return kind is not None and kind.streams_text


def model(catalog: Catalog, spec: ModelSpec, base: str, *, described: bool) -> dict[str, Any]:
    """A model. `base` is this server's URL; `described`: with the schemas of its version, which are long."""
    return {
        "url": f"{base}/v1/models/{full_name(spec.name)}",
        "owner": OWNER,
        "name": spec.name,
        "description": f"The model {spec.name} of this server, run by the engine {spec.engine}.",
        "visibility": "private",
        "github_url": None,
        "paper_url": None,
        "license_url": None,
        "run_count": 0,
        "cover_image_url": None,
        "default_example": None,
        "latest_version": version(catalog, spec, described=described),
    }


def version(catalog: Catalog, spec: ModelSpec, *, described: bool) -> dict[str, Any]:
    """The one version that an entry of the catalogue has, as Replicate describes versions."""
    return {
        "id": version_id(spec.name),
        "created_at": rfc3339(catalog.written * 1000),
        "cog_version": COG_VERSION,
        "openapi_schema": openapi(spec) if described else {},
    }


def openapi(spec: ModelSpec) -> dict[str, Any]:
    """What a prediction's `input` may hold and what its `output` is, as an OpenAPI document."""
    return {
        "openapi": "3.1.0",
        "info": {"title": full_name(spec.name), "version": version_id(spec.name)},
        "paths": {},
        "components": {"schemas": {"Input": _input(spec), "Output": _output(spec)}},
    }


def _input(spec: ModelSpec) -> dict[str, Any]:
    if spec.engine not in ENGINES:
        return {"title": "Input", "type": "object"}
    made = model_schemas(spec)
    members: dict[str, Any] = dict(_content(spec, made["input"]))
    members |= {
        name: schema for name, schema in made["params"]["properties"].items() if name != "n"
    }
    ordered = {name: {**schema, "x-order": at} for at, (name, schema) in enumerate(members.items())}
    return {
        "title": "Input",
        "type": "object",
        "additionalProperties": False,
        "properties": ordered,
    }


def _content(spec: ModelSpec, schema: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """The members that are the job's input: one of its own, and those of an object in its place."""
    kinds = schema.get("oneOf") or [schema]
    plain = [kind for kind in kinds if "properties" not in kind]
    name = CONTENT.get(spec.engine, "prompt")
    found = [(name, plain[0] if len(plain) == 1 else {"anyOf": plain})]
    for kind in kinds:
        found += list(kind.get("properties", {}).items())
    return found


def _output(spec: ModelSpec) -> dict[str, Any]:
    if streams_text(spec):
        return {
            "title": "Output",
            "type": "array",
            "items": {"type": "string"},
            "x-cog-array-type": "iterator",
            "x-cog-array-display": "concatenate",
        }
    return {"title": "Output", **output_schema(spec)}
