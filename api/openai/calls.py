"""What the calls of this dialect have in common: a body is read and checked, its job made, its end told."""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

import msgspec
from msgspec.structs import replace
from pydantic import ValidationError

from api.http.answers import document
from api.http.errors import problem, to_problem
from api.http.limits import RequestCharges, with_quota_status
from api.http.operations import Dialect
from api.http.reply import Answered, Reply
from api.http.request_context import RequestContext
from api.http.requests import Sent, no_store
from api.http.sse.form import Form
from api.intake.acceptance import Accepted, Rejected, submit
from api.intake.submission import Submission, digest_of, submission_of
from api.intake.waiting import wait_for_end
from api.openai import retries
from api.openai.errors import status_of, to_openai, told
from api.openai.schemas import OpenAIProblem
from api.routes.infer import failure, stream_new
from shared.domain.errors import UnknownModel
from shared.domain.requests.params import ENGINES
from shared.domain.requests.request_faults import invalid
from shared.domain.states import JobState
from shared.domain.wire import Wire

MOST_SECONDS = 290.0
"""For which an answer is held. node's fetch gives up after 300 without one."""
ENDINGS = (
    *("invalid_input", "poison_input", "output_too_large", "engine_error", "out_of_memory"),
    *("worker_crashed", "run_timeout", "job_canceled", "job_expired"),
    *("model_unavailable", "still_running"),
)
"""Why a call has no result, beside those why it makes no job."""
DIALECT = Dialect(to_openai, told, status_of, OpenAIProblem)
_DECODE = msgspec.json.Decoder().decode


class Asked(NamedTuple):
    """A call: its job, what renders a job that succeeded, and for a stream the form of a job's events.

    `further` are jobs beside that one, and `together` makes one of all that have succeeded, for `render`.
    """

    submission: Submission
    render: Callable[[Mapping[str, Any]], dict[str, Any]]
    form_of: Callable[[str], Form] | None = None
    further: tuple[Submission, ...] = ()
    together: Callable[[Sequence[Mapping[str, Any]]], Mapping[str, Any]] = lambda jobs: jobs[0]


def answer(here: RequestContext, asked: Asked, charges: RequestCharges) -> Answered:
    """What a call is answered: the end of its job, once there is one, or its stream."""
    if asked.form_of is not None:
        # A reader is written down before its job is made; who is over the limit must not cost that.
        charges = charges.commit()
        if charges.refused is not None:
            return with_quota_status(to_problem(here, charges.refusal()), charges)
        return stream_new(here, asked.submission, charges, asked.form_of)
    if asked.further:
        return _answer_all(here, asked, charges)
    accepted = submit(here, asked.submission, charges, MOST_SECONDS, urgent=True)
    if isinstance(accepted, Rejected):
        return with_quota_status(to_problem(here, accepted.error), accepted.charges)
    return with_quota_status(_told(here, [accepted], asked), accepted.charges)


def _answer_all(here: RequestContext, asked: Asked, charges: RequestCharges) -> Answered:
    """Make all jobs of a call, none where one of them is refused, and wait for the end of each."""
    submissions = (asked.submission, *asked.further)
    charges = charges.with_tokens(sum(one.tokens for one in submissions)).commit()
    if charges.refused is not None:
        return with_quota_status(to_problem(here, charges.refusal()), charges)
    made: list[Accepted] = []
    for one in submissions:
        accepted = submit(here, replace(one, tokens=0), charges, 0, urgent=True)
        if isinstance(accepted, Rejected):
            for before in made:
                here.services.store.cancel(before.record.id, here.caller.tenant)
            return with_quota_status(to_problem(here, accepted.error), charges)
        made.append(accepted)
    deadline = time.monotonic() + MOST_SECONDS
    ended = []
    for accepted in made:
        record = wait_for_end(here, accepted.record.id, max(0.0, deadline - time.monotonic()))
        ended.append(replace(accepted, record=record))
    return with_quota_status(_told(here, ended, asked), charges)


def _told(here: RequestContext, ended: Sequence[Accepted], asked: Asked) -> Reply:
    """What is answered of jobs whose ends were waited for: of the first that has none, or has failed."""
    for accepted in ended:
        record = accepted.record
        if not record.terminal:
            waits = "The job goes on. Send the same request again to wait for its end."
            return problem(here, "still_running", waits, job_id=record.id)
        if record.state is not JobState.SUCCEEDED:
            return failure(here, accepted)
    jobs = [_DECODE(accepted.record.to_json()) for accepted in ended]
    return document(asked.render(asked.together(jobs)))


def submission(
    here: RequestContext, given: dict[str, Any], body: dict[str, Any], part: int | None = None
) -> Submission:
    """The job of a call, or of the n-th part of one. `given` is what was sent, `body` the same as a native
    request.
    """
    digest = digest_of(given if part is None else {"part": part, "of": given})
    key = retries.key(here.caller.key_id, here.environ["PATH_INFO"], digest)
    made = submission_of(here, Sent(key, no_store(here.environ), body), digest)
    joins = retries.JUST_ENDED if retries.is_retry(here.environ) else 0.0
    job = replace(made.job, key_ttl=retries.KEY_TTL, takes_key=True, joins=joins)
    return replace(made, job=job)


Request = TypeVar("Request", bound=Wire)


def parsed(request: type[Request], given: dict[str, Any]) -> Request:
    """The body of a call. Raises `InvalidRequest` with every fault found."""
    try:
        return request.model_validate(given)
    except ValidationError as error:
        raise invalid(error) from None


def require_text(here: RequestContext, model: str) -> None:
    """Raises `UnknownModel` also for a model that writes no text."""
    kind = ENGINES.get(here.services.catalog.get(model).engine)
    if kind is None or not kind.generates_text:
        raise UnknownModel(
            f"The model {model!r} writes no text. GET /v1/models has the engine of each."
        )


def require_engine(here: RequestContext, model: str, engine: str) -> None:
    """Raises `UnknownModel` also for a model of another engine."""
    if here.services.catalog.get(model).engine != engine:
        raise UnknownModel(
            f"The model {model!r} does no {engine}. GET /v1/models has the engine of each."
        )
