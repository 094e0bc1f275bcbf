"""The routes of Replicate's API for predictions. Each one that is made is a job."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeVar

from flask import Response
from pydantic import ValidationError

from api.http import requests
from api.http.answers import document, links
from api.http.caller import Access
from api.http.errors import to_problem
from api.http.limits import RequestCharges, with_quota_status
from api.http.operations import EVENT_STREAM, Answer, Operations, Parameter
from api.http.parameters import (
    CURSOR,
    IDEMPOTENCY_KEY,
    JOB_ID,
    PREFER,
    SUBMISSION_PROBLEMS,
    TRACEPARENT,
)
from api.http.reply import Answered, Reply
from api.http.request_context import RequestContext
from api.intake.acceptance import Rejected, submit
from api.intake.submission import Submission, digest_of, submission_of
from api.openapi.model_examples import TEXT_MODEL
from api.replicate import examples, models
from api.replicate.cancel_after import CANCEL_AFTER, cancel_after
from api.replicate.inputs import ModelPrediction, VersionPrediction, as_input, job_request
from api.replicate.predictions import prediction
from api.replicate.schemas import Prediction, PredictionPage
from api.replicate.stream import EVENT_ID, Place, ReplicateForm
from api.routes.streams import followed
from api.state.limit_plan import Counted
from shared.domain import predictions
from shared.domain.audit import Action
from shared.domain.errors import InvalidRequest
from shared.domain.models.catalog import Catalog, ModelSpec
from shared.domain.records import Record
from shared.domain.requests.request_faults import invalid
from shared.webhooks.bodies import PREDICTION, TEXT_PREDICTION

PAGE = 20
OWNER = Parameter(
    "owner",
    "path",
    f"`{predictions.OWNER}`, whoever wrote the model.",
    {"type": "string", "enum": [predictions.OWNER]},
    predictions.OWNER,
)
NAME = Parameter(
    "name",
    "path",
    "The model's name in the catalogue.",
    {"type": "string", "pattern": "^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$"},
    TEXT_MODEL,
)
PROBLEMS = (*SUBMISSION_PROBLEMS, "invalid_input")

replicate = Operations("replicate", __name__)


class Asked(NamedTuple):
    """A prediction that is to be made: its job, and its input as it was given."""

    submission: Submission
    given: Mapping[str, Any]


Body = TypeVar("Body", bound=ModelPrediction)


def _read_by_version(here: RequestContext) -> Asked:
    return _read(
        here, VersionPrediction, lambda found, asked: models.of_version(found, asked.version)
    )


def _read_by_name(here: RequestContext) -> Asked:
    path = here.request.view_args or {}
    return _read(
        here, ModelPrediction, lambda found, _: models.find(found, path["owner"], path["name"])
    )


def _read(
    here: RequestContext, kind: type[Body], model_of: Callable[[Catalog, Body], ModelSpec]
) -> Asked:
    """Raises `JobsError` for everything that is wrong with a request."""
    sent = requests.sent(here)
    try:
        asked = kind.model_validate(sent.body)
    except ValidationError as error:
        raise invalid(error) from None
    spec = model_of(here.services.catalog, asked)
    until = cancel_after(here)
    try:
        body = job_request(spec, asked.input)
        if until is not None:
            body["expires_in"] = until
        if (webhook := asked.told_to()) is not None:
            body["webhook"] = webhook
        digest = digest_of(body) if sent.key is not None else ""
        form = TEXT_PREDICTION if models.streams_text(spec) else PREDICTION
        submission = submission_of(here, sent._replace(body=body), digest, form)
        return Asked(submission, asked.input)
    except InvalidRequest as error:
        raise as_input(error) from None


def _made(here: RequestContext, asked: Asked, charges: RequestCharges) -> Answered:
    wait = asked.submission.asked.wait
    accepted = submit(here, asked.submission, charges, wait or 0)
    if isinstance(accepted, Rejected):
        return with_quota_status(to_problem(here, accepted.error), accepted.charges)
    told = _told(here, accepted.record, given=asked.given, made=True)
    headers = {"Location": told["urls"]["get"]}
    if accepted.replayed:
        headers["Idempotent_Replayed"] = "true"
    if wait is not None:
        headers["Preference_Applied"] = f"wait={wait}"
    return with_quota_status(document(told, 201, **headers), accepted.charges)


def _told(here: RequestContext, record: Record, **said: Any) -> dict[str, Any]:
    return prediction(record, links(here), here.services.catalog, **said)


MADE = {
    201: Answer(
        "The prediction: ended within `Prefer: wait` or with a result from the cache, else `starting`.",
        Prediction,
        examples.MADE,
        headers={
            "Location": "Where the prediction is.",
            "Preference-Applied": "The wait that was applied.",
            "Idempotent-Replayed": "`true` where an earlier request had made it.",
        },
    )
}


@replicate.operation(
    "POST",
    "/v1/predictions",
    counted=Counted.SUBMIT,
    reads=_read_by_version,
    parameters=(PREFER, CANCEL_AFTER, IDEMPOTENCY_KEY, TRACEPARENT),
    body=VersionPrediction,
    body_examples=examples.BY_VERSION,
    answers=MADE,
    problems=PROBLEMS,
)
def create_prediction(here: RequestContext, asked: Asked, charges: RequestCharges) -> Answered:
    """Make a prediction of a version

    As Replicate's: a job of the version's model.
    """
    return _made(here, asked, charges)


@replicate.operation(
    "POST",
    "/v1/models/{owner}/{name}/predictions",
    counted=Counted.SUBMIT,
    reads=_read_by_name,
    parameters=(OWNER, NAME, PREFER, CANCEL_AFTER, IDEMPOTENCY_KEY, TRACEPARENT),
    body=ModelPrediction,
    body_examples=examples.BY_NAME,
    answers=MADE,
    problems=PROBLEMS,
)
def create_model_prediction(
    here: RequestContext, asked: Asked, charges: RequestCharges
) -> Answered:
    """Make a prediction of a model

    As Replicate's.
    """
    return _made(here, asked, charges)


@replicate.operation(
    "POST",
    "/v1/deployments/{owner}/{name}/predictions",
    counted=Counted.SUBMIT,
    reads=_read_by_name,
    parameters=(OWNER, NAME, PREFER, CANCEL_AFTER, IDEMPOTENCY_KEY, TRACEPARENT),
    body=ModelPrediction,
    body_examples=examples.BY_NAME,
    answers=MADE,
    problems=PROBLEMS,
)
def create_deployment_prediction(
    here: RequestContext, asked: Asked, charges: RequestCharges
) -> Answered:
    """Make a prediction of a deployment

    As Replicate's; every model is deployed under its own name.
    """
    return _made(here, asked, charges)


@replicate.operation(
    "GET",
    "/v1/predictions",
    parameters=(CURSOR,),
    answers={200: Answer("A page of predictions.", PredictionPage, examples.PAGE)},
    problems=("invalid_cursor",),
)
def list_predictions(here: RequestContext) -> Reply:
    """List predictions, newest first

    All jobs of the caller's tenant, whichever route made them.
    """
    records, cursor = here.services.store.listing(
        here.caller.tenant, limit=PAGE, cursor=here.request.args.get("cursor")
    )
    after = f"{links(here).base}/v1/predictions?cursor={cursor}" if cursor else None
    results = [_told(here, record) for record in records]
    return document({"results": results, "next": after, "previous": None})


@replicate.operation(
    "GET",
    "/v1/predictions/{job_id}",
    parameters=(JOB_ID,),
    answers={200: Answer("The prediction.", Prediction, examples.PREDICTION)},
    problems=("job_not_found",),
)
def get_prediction(here: RequestContext, job_id: str) -> Reply:
    """Get a prediction

    Of any job.
    """
    return document(_told(here, here.services.store.get(job_id, here.caller.tenant)))


@replicate.operation(
    "POST",
    "/v1/predictions/{job_id}/cancel",
    changes=Action.JOB_CANCEL,
    parameters=(JOB_ID,),
    answers={
        200: Answer(
            "The prediction, `canceled` once its work has stopped.", Prediction, examples.CANCELED
        )
    },
    problems=("job_not_found",),
)
def cancel_prediction(here: RequestContext, job_id: str) -> Reply:
    """Cancel a prediction

    May be repeated.
    """
    store, tenant = here.services.store, here.caller.tenant
    store.cancel(job_id, tenant)
    return document(_told(here, store.get(job_id, tenant)))


@replicate.operation(
    "GET",
    "/v1/predictions/{job_id}/stream",
    access=Access.TICKET,
    parameters=(
        JOB_ID,
        Parameter(
            "Last-Event-ID",
            "header",
            "The id of the last event that you got; read on after it.",
            {"type": "string", "pattern": EVENT_ID},
            example="1-17",
        ),
        Parameter("ticket", "query", "Instead of the token: from the prediction's `urls.stream`."),
    ),
    answers={
        200: Answer("The events, until `done`.", media=EVENT_STREAM, example=examples.EVENTS),
        204: Answer("The cursor is `done`: there is nothing more to come."),
    },
    problems=("job_not_found", "invalid_cursor", "events_expired"),
)
def stream_prediction(here: RequestContext, job_id: str) -> Response:
    """Follow a prediction

    As Replicate's: `output` events with raw text, then `done`, or `error` and `done`. Come back with
    `Last-Event-ID` when the connection breaks: nothing is missed and nothing comes twice.
    """
    given = here.request.headers.get("Last-Event-ID")
    place = Place.parse(given) if given else None
    form = ReplicateForm(here.services.catalog, place)
    return followed(here, job_id, place.after if place is not None else None, form)
