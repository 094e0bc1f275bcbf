"""Decoded bodies become requests that are checked, by the schema and by what their model takes."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from pydantic import ValidationError

from shared.domain.errors import InputRefused, InvalidRequest
from shared.domain.models.catalog import Catalog, ModelSpec
from shared.domain.requests.inputs import items_to_embed
from shared.domain.requests.params import INPUTS, TEXT_ENGINES, checked
from shared.domain.requests.request_faults import invalid
from shared.domain.schemas import CheckedRequest, IngestEvent

TOKENS = (
    "token ids say nothing without their tokenizer, and this model's entry takes none (token_ids: true)."
    " Send texts; in LangChain set check_embedding_ctx_length=False"
)


def parse_event(value: dict[str, Any]) -> dict[str, Any]:
    """The job request in a message. Raises `InvalidRequest` with every fault found."""
    try:
        IngestEvent.model_validate(value)
    except ValidationError as error:
        raise invalid(error) from None
    data: dict[str, Any] = value["data"]
    return data


class ParsedRequest(NamedTuple):
    """A checked request: the entry of its model, its params with the engine's defaults filled in, its prompt
    or input, whichever was given, and the params that its engine is told (`CheckedParams`).
    """

    request: CheckedRequest
    spec: ModelSpec
    params: dict[str, Any]
    content: Any
    told: dict[str, Any]


def parse_request(value: Any, catalog: Catalog) -> ParsedRequest:
    """Check a decoded body against the schema and its model's engine.

    Raises `InvalidRequest` with every fault found, or `UnknownModel`.
    """
    request = CheckedRequest.of(value)
    content = request.prompt if request.prompt is not None else request.input
    spec = catalog.get(request.model)
    try:
        params, told = checked(spec.engine, request.params)
    except ValidationError as error:
        raise invalid(error, ("params",)) from None
    takes = INPUTS.get(spec.engine)
    field = "prompt" if request.prompt is not None else "input"
    if takes is not None:
        try:
            takes.validate_python(content)
        except ValidationError as error:
            raise invalid(error, (field,), skip=1) from None
    elif isinstance(request.prompt, list):
        raise _fault(("prompt",), "Input should be a valid string", "string_type")
    if spec.engine in TEXT_ENGINES:
        _check_lengths(spec, content, params)
    if spec.engine == "embedding" and isinstance(items_to_embed(content)[0], list):
        _check_ids(spec, field, params)
    return ParsedRequest(request, spec, params, content, told)


def _check_ids(spec: ModelSpec, field: str, params: Mapping[str, Any]) -> None:
    """Whether a model embeds token ids. Raises `InvalidRequest`."""
    if not spec.token_ids:
        raise _fault((field,), TOKENS, "token_ids")
    for name in ("prompt", "prompt_name"):
        if params.get(name) is not None:
            why = "stands before texts; put its tokens into each list of token ids"
            raise _fault(("params", name), why, "token_ids")


def _check_lengths(spec: ModelSpec, content: Any, params: Mapping[str, Any]) -> None:
    """What the limits of a model's entry say of a text. Raises `InvalidRequest` or `InputRefused`."""
    most = spec.limits.max_new_tokens
    for name in ("max_new_tokens", "min_tokens"):
        if (params[name] or 0) > most:
            raise InvalidRequest(
                f"{name} must be at most {most} for {spec.name}.",
                errors=[
                    {
                        "loc": ["params", name],
                        "msg": f"must be at most {most}",
                        "type": "less_than_equal",
                    }
                ],
            )
    if isinstance(content, list) and len(content) > spec.limits.max_prompt_tokens:
        raise InputRefused(
            f"The prompt has {len(content)} tokens; this model takes {spec.limits.max_prompt_tokens}.",
            code="prompt_too_long",
        )


def _fault(place: tuple[str, ...], message: str, kind: str) -> InvalidRequest:
    return InvalidRequest(
        f"{'.'.join(place)}: {message}",
        errors=[{"loc": [*place], "msg": message, "type": kind}],
    )
