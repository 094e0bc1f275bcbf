"""The routes of OpenAI's Responses. A response is read, followed, cancelled and deleted by its id."""

from collections.abc import Mapping
from functools import partial
from typing import Any, Literal

import msgspec
from msgspec.structs import replace

from api.http import requests
from api.http.answers import document
from api.http.errors import to_problem
from api.http.limits import RequestCharges, with_quota_status
from api.http.operations import Answer, Operations, Parameter
from api.http.parameters import SUBMISSION_PROBLEMS, TRACEPARENT
from api.http.reply import Answered, Reply
from api.http.request_context import RequestContext
from api.intake.acceptance import Rejected, submit
from api.intake.subscriptions import told_to_endpoints
from api.intake.waiting import wait_for_end
from api.openai.calls import DIALECT, ENDINGS, Asked, answer, parsed, require_text, submission
from api.openai.responses import documents, examples
from api.openai.responses.conversation import Found, Responses
from api.openai.responses.documents import input_items, job_id_of
from api.openai.responses.request import RESPONSE_ID, ResponseRequest
from api.openai.responses.schemas import DeletedResponse, InputItems, ModelResponse
from api.openai.responses.stream import ResponseStream
from api.routes.streams import resumed
from api.state.limit_plan import Counted
from shared.domain.audit import Action
from shared.domain.errors import InvalidRequest

PAGE, MAX_PAGE = 20, 100
MOST_EVENTS = 10**9
CANCEL_SECONDS = 30.0
"""For which a cancel is given to take hold: a worker stops between two steps."""
FOUND = {200: Answer("The response.", ModelResponse, examples.RESPONSE)}
RESPONSE = Parameter(
    "response_id",
    "path",
    "The response's `id`.",
    {"type": "string", "pattern": RESPONSE_ID},
    examples.ID,
)
INCLUDE = tuple(
    Parameter(name, "query", "Taken, and without a meaning here.", published=name == "include")
    for name in ("include", "include[]")
)
_DECODE = msgspec.json.Decoder().decode

responses = Operations("responses", __name__, tag="openai", dialect=DIALECT)


class Call(msgspec.Struct, frozen=True):
    """A request for a response, and what is kept of it. `model` and `metadata` are what was sent."""

    asked: Asked
    kept: documents.Asked
    model: str
    metadata: Mapping[str, str]

    @property
    def background(self) -> bool:
        """Whether the client does not wait for the end."""
        return bool(self.kept.echo["background"])

    def queued(self, job_id: str) -> dict[str, Any]:
        """The response as it was made."""
        return documents.unended(job_id, self.model, self.metadata, "queued", self.kept)


def _read(here: RequestContext) -> Call:
    given = requests.json_object(here)
    asked = parsed(ResponseRequest, given)
    require_text(here, asked.model)
    items = Responses(here.services.store, here.caller.tenant).conversation(asked)
    body = asked.body(items, here.services.sampling_defaults.of(asked.model))
    kept = documents.Asked(items, asked.echo(body["params"]))
    made = submission(here, given, body)
    if asked.store:
        told_as: Literal["", "response"] = told_to_endpoints(here) if asked.background else ""
        made = replace(made, job=replace(made.job, asked=kept.to_json(), told_as=told_as))
    form_of = partial(ResponseStream, model=asked.model, metadata=asked.metadata, asked=kept)
    call = Asked(made, partial(documents.response, asked=kept), form_of if asked.stream else None)
    return Call(call, kept, asked.model, asked.metadata)


@responses.operation(
    "POST",
    "/v1/responses",
    counted=Counted.SUBMIT,
    reads=_read,
    parameters=(TRACEPARENT,),
    body=ResponseRequest,
    body_examples=examples.REQUESTS,
    answers=FOUND,
    problems=(*SUBMISSION_PROBLEMS, *ENDINGS, "previous_response_not_found"),
)
def create_response(here: RequestContext, call: Call, charges: RequestCharges) -> Answered:
    """Make a response

    As OpenAI's: with `stream: true` its events are told as they come, with `background: true` the answer
    comes at once, and the response is read later. `previous_response_id` names one that it goes on with.
    """
    if not call.background:
        return answer(here, call.asked, charges)
    accepted = submit(here, call.asked.submission, charges, 0)
    if isinstance(accepted, Rejected):
        return with_quota_status(to_problem(here, accepted.error), accepted.charges)
    record = accepted.record
    if call.asked.form_of is not None:
        stored = here.services.store.get(record.id, here.caller.tenant)
        streamed = resumed(here, stored, None, call.asked.form_of(record.id))
        return with_quota_status(streamed, accepted.charges)
    if accepted.replayed:
        reply = documents.response(_DECODE(record.to_json()), call.kept)
    else:
        # Also of a job that has ended already, with a result from the cache: clients look again.
        reply = call.queued(record.id)
    return with_quota_status(document(reply), accepted.charges)


@responses.operation(
    "GET",
    "/v1/responses/{response_id}",
    parameters=(
        RESPONSE,
        Parameter("stream", "query", "Tell its events in place of itself.", {"type": "boolean"}),
        Parameter(
            "starting_after",
            "query",
            "With `stream`: the `sequence_number` of the last event that you got.",
            {"type": "integer", "minimum": 0, "maximum": MOST_EVENTS},
            3,
        ),
        Parameter("include_obfuscation", "query", "Taken, and without a meaning here."),
        *INCLUDE,
    ),
    answers={200: Answer("The response, or its events.", ModelResponse, examples.RESPONSE)},
    problems=("response_not_found", "invalid_parameter", "events_expired"),
)
def get_response(here: RequestContext, response_id: str) -> Answered:
    """Get a response

    With `stream=true` its events from the first, or behind the one that `starting_after` names, and then
    live: the same events with the same numbers at each call. Without `stream` nothing is behind anything,
    and `starting_after` means nothing.
    """
    record, job, asked = _found(here, response_id)
    after = _starting_after(here)
    if not _streams(here):
        return document(documents.response(job, asked))
    model = job.get("fallback_from") or job["model"]
    reset = here.services.hub.log.last_reset(record)
    form = ResponseStream(
        *(record.id, model, job["metadata"], asked),
        after=-1 if after is None else after,
        began_anew=reset is not None,
    )
    return resumed(here, record, reset, form)


@responses.operation(
    "POST",
    "/v1/responses/{response_id}/cancel",
    changes=Action.JOB_CANCEL,
    parameters=(RESPONSE,),
    answers=FOUND,
    problems=("response_not_found", "invalid_request"),
)
def cancel_response(here: RequestContext, response_id: str) -> Reply:
    """Cancel a response that is made in the background

    May be repeated. The answer waits for the work to stop.
    """
    asked = _found(here, response_id).asked
    if not asked.echo["background"]:
        raise InvalidRequest(
            "Only a response with background: true is cancelled here. Close the connection of any other."
        )
    job_id = job_id_of(response_id)
    here.services.store.cancel(job_id, here.caller.tenant)
    record = wait_for_end(here, job_id, CANCEL_SECONDS)
    return document(documents.response(_DECODE(record.to_json()), asked))


@responses.operation(
    "DELETE",
    "/v1/responses/{response_id}",
    changes=Action.JOB_DELETE,
    parameters=(RESPONSE,),
    answers={200: Answer("It is gone, with its job.", DeletedResponse, examples.DELETED)},
    problems=("response_not_found", "job_not_terminal"),
)
def delete_response(here: RequestContext, response_id: str) -> Reply:
    """Delete a response that has ended"""
    services, record = here.services, _found(here, response_id).record
    services.cache.forget(services.store.delete(record.id, here.caller.tenant))
    return document({"id": response_id, "object": "response", "deleted": True})


@responses.operation(
    "GET",
    "/v1/responses/{response_id}/input_items",
    parameters=(
        RESPONSE,
        Parameter(
            "limit",
            "query",
            "How many items at most.",
            {"type": "integer", "minimum": 1, "maximum": MAX_PAGE, "default": PAGE},
            PAGE,
        ),
        Parameter("after", "query", "The `last_id` of the page before."),
        Parameter(
            "order",
            "query",
            "`desc`: the newest first.",
            {"type": "string", "enum": ["asc", "desc"], "default": "desc"},
        ),
        *INCLUDE,
    ),
    answers={200: Answer("A page of items.", InputItems, examples.INPUT_ITEMS)},
    problems=("response_not_found", "invalid_parameter", "invalid_cursor"),
)
def list_input_items(here: RequestContext, response_id: str) -> Reply:
    """List what came before a response

    All items that it answers: those of the responses before it come first in the conversation.
    """
    record, _, asked = _found(here, response_id)
    limit = requests.count(here, "limit", default=PAGE, maximum=MAX_PAGE)
    items = input_items(record.id, asked)
    if _one_of(here, "order", ("desc", "asc")) == "desc":
        items.reverse()
    after = here.request.args.get("after")
    if after is not None:
        places = [place for place, item in enumerate(items) if item["id"] == after]
        if not places:
            raise InvalidRequest(f"No item has the id {after[:80]!r}.", code="invalid_cursor")
        items = items[places[0] + 1 :]
    page = items[:limit]
    return document(
        {
            "object": "list",
            "data": page,
            "first_id": page[0]["id"] if page else None,
            "last_id": page[-1]["id"] if page else None,
            "has_more": len(items) > limit,
        }
    )


def _found(here: RequestContext, response_id: str) -> Found:
    return Responses(here.services.store, here.caller.tenant).get(response_id)


def _streams(here: RequestContext) -> bool:
    return _one_of(here, "stream", ("false", "true")) == "true"


def _starting_after(here: RequestContext) -> int | None:
    given = here.request.args.get("starting_after")
    if given is None:
        return None
    if not (given.isascii() and given.isdigit() and int(given[:10]) <= MOST_EVENTS):
        raise requests.bad_parameter(
            f"'starting_after' must be the number of an event, not {given[:40]!r}."
        )
    return int(given)


def _one_of(here: RequestContext, name: str, known: tuple[str, ...]) -> str:
    """A parameter that takes few values, the first where it is left out. Raises `InvalidRequest`."""
    given = here.request.args.get(name, known[0])
    if given not in known:
        raise requests.bad_parameter(
            f"'{name}' must be one of {', '.join(known)}, not {given[:40]!r}."
        )
    return given
