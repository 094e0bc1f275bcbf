"""The schema of a job request as this server takes it: which params and input each of its models has."""

from typing import Any

from pydantic import TypeAdapter

from shared.catalog import Catalog, ModelSpec
from shared.params import INPUTS, PARAMS
from shared.schemas import JobRequest
from shared.wire import NULL, or_null

ONE_INPUT = [
    {"required": ["prompt"], "properties": {"prompt": {"type": "string"}, "input": NULL}},
    {"required": ["input"], "properties": {"prompt": NULL, "input": {"not": NULL}}},
]
"""One that is null is left out."""


def request_schemas(catalog: Catalog, ref_template: str) -> dict[str, Any]:
    """`JobRequest`, with one branch a model, and every schema that it refers to, by name."""
    found: dict[str, Any] = {}
    whole = _parts(TypeAdapter(JobRequest), found, ref_template)
    whole["properties"]["params"]["description"] = "What the model's engine takes."
    whole["anyOf"] = [_of_model(spec, found, ref_template) for spec in catalog]
    whole["oneOf"] = ONE_INPUT
    return {**found, "JobRequest": whole}


def _of_model(spec: ModelSpec, found: dict[str, Any], ref_template: str) -> dict[str, Any]:
    properties: dict[str, Any] = {"model": {"const": spec.name}}
    params = PARAMS.get(spec.engine)
    if params is not None:
        schema = _parts(params, found, ref_template)
        found[schema["title"]] = schema
        properties["params"] = {"$ref": ref_template.format(model=schema["title"])}
    if spec.engine == "text-generation":
        bound = {"properties": {"max_new_tokens": {"maximum": spec.limits.max_new_tokens}}}
        properties["params"] = {"allOf": [properties["params"], bound]}
    if "params" in properties:
        properties["params"] = or_null(properties["params"])
    content = INPUTS.get(spec.engine)
    if content is not None:
        properties["input"] = or_null(_parts(content, found, ref_template))
    return {"title": spec.name, "properties": properties}


def _parts(adapter: TypeAdapter[Any], found: dict[str, Any], ref_template: str) -> dict[str, Any]:
    """A schema; what it defines by name goes into `found`."""
    schema = adapter.json_schema(ref_template=ref_template)
    found.update(schema.pop("$defs", {}))
    return schema
