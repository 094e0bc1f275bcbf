"""A prediction's `input` as a job request: what is its content, and what its params."""

from collections.abc import Mapping
from functools import lru_cache
from typing import Annotated, Any, Literal

from pydantic import Field, WithJsonSchema

from api.replicate.models import CONTENT
from shared.domain.errors import InvalidRequest
from shared.domain.models.catalog import ModelSpec
from shared.domain.requests.params import ENGINES, INPUTS, TEXT_ENGINES
from shared.domain.schemas import Json
from shared.domain.wire import Wire

ALIASES = {"max_tokens": "max_new_tokens"}
"""What models of Replicate that write text call a param of ours."""


PredictionEvent = Literal["start", "output", "logs", "completed"]
EVENTS: Mapping[str, str] = {
    "start": "started",
    "output": "completed",
    "logs": "",
    "completed": "completed",
}
"""The job's event by Replicate's name."""


class ModelPrediction(Wire):
    """The body of `POST /v1/models/{owner}/{name}/predictions`."""

    input: Annotated[dict[str, Json], WithJsonSchema({"type": "object"})] = Field(
        description="By the schema `Input` of the model's version: its prompt or input, and its params."
    )
    webhook: str | None = Field(
        default=None,
        min_length=1,
        max_length=2048,
        description="An https URL that is sent the prediction. See docs/webhooks.md for where it may be.",
    )
    webhook_events_filter: list[PredictionEvent] | None = Field(
        default=None,
        max_length=4,
        description="`start`, and `completed` or `output`: it has ended, which is when all its output is "
        "there. Nothing is ever sent for `logs`. All if left out.",
    )
    webhook_completed: str | None = Field(
        default=None,
        min_length=1,
        max_length=2048,
        description="The older way to say `webhook` and the filter `completed`.",
    )
    stream: bool | None = Field(
        default=None,
        description="Taken, and without a meaning: every prediction has `urls.stream`.",
    )

    def told_to(self) -> dict[str, Any] | None:
        """The job's webhook; None where it has none."""
        if self.webhook is None:
            return _webhook(self.webhook_completed, ["completed"])
        wanted = self.webhook_events_filter
        events = {EVENTS[event] for event in (wanted if wanted is not None else EVENTS)} - {""}
        return _webhook(self.webhook, sorted(events))


class VersionPrediction(ModelPrediction):
    """The body of `POST /v1/predictions`."""

    version: str = Field(
        min_length=1, max_length=256, description="A version's id, `owner/name` or `owner/name:id`."
    )


def job_request(spec: ModelSpec, given: Mapping[str, Any]) -> dict[str, Any]:
    """The body of `POST /v1/jobs` that asks the same. Raises `InvalidRequest`."""
    if spec.engine not in ENGINES:
        # Of an engine of one's own nobody knows what it takes: an object, unless it is told otherwise.
        return {"model": spec.name, "input": given["input"] if set(given) == {"input"} else given}
    plain, members = CONTENT.get(spec.engine, "prompt"), _content_members(spec.engine)
    content = {name: value for name, value in given.items() if name in members}
    params = {
        _param(spec, name): value
        for name, value in given.items()
        if name not in members and name != plain
    }
    if params.get("n") not in (None, 1):
        raise _fault("n", "cannot be used: make a prediction for each text")
    said = given.get(plain)
    if (said is None) == (not content):
        raise _fault(plain, _one_of(plain, members))
    body: dict[str, Any] = {"model": spec.name, "params": params}
    body["input" if content or plain == "input" else "prompt"] = content or said
    return body


def as_input(error: InvalidRequest) -> InvalidRequest:
    """What is wrong with a job's content or params, by where it is in a prediction's `input`."""
    rows = [{**row, "loc": _place(row["loc"])} for row in error.errors]
    if not rows or rows[0]["loc"][0] != "input":
        return error
    where = ".".join(map(str, rows[0]["loc"]))
    return InvalidRequest(f"{where}: {rows[0]['msg']}", errors=rows, code="invalid_input")


def _webhook(url: str | None, events: list[str]) -> dict[str, Any] | None:
    return {"url": url, "events": events} if url is not None and events else None


def _place(loc: list[Any]) -> list[Any]:
    match loc:
        case ["params", *rest]:
            return ["input", *rest]
        case ["prompt", *rest]:
            return ["input", "prompt", *rest]
    return loc


def _param(spec: ModelSpec, name: str) -> str:
    return ALIASES.get(name, name) if spec.engine in TEXT_ENGINES else name


@lru_cache(maxsize=64)
def _content_members(engine: str) -> frozenset[str]:
    """The names of members that make up an object as the job's input, such as a chat's `messages`."""
    defined = INPUTS[engine].json_schema()
    kinds = [
        defined["$defs"][kind["$ref"].removeprefix("#/$defs/")]
        for kind in defined.get("oneOf", ())
        if "$ref" in kind
    ]
    return frozenset(name for kind in kinds for name in kind["properties"])


def _one_of(plain: str, members: frozenset[str]) -> str:
    first = {"messages", "query", "image", "audio"} & members
    return f"give exactly one of {', '.join((plain, *sorted(first)))}" if first else "is missing"


def _fault(name: str, why: str) -> InvalidRequest:
    row = {"loc": ["input", name], "msg": why, "type": "prediction_input"}
    return InvalidRequest(f"input.{name} {why}.", errors=[row], code="invalid_input")
