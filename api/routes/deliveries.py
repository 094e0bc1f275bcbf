"""Deliveries of webhooks: what became of them, and another go."""

from api.http import requests
from api.http.answers import document
from api.http.operations import Answer, Operations
from api.http.parameters import JOB_ID, LIMIT, PAGE
from api.http.reply import Reply
from api.http.request_context import RequestContext
from api.openapi import examples
from shared.domain.audit import Action
from shared.domain.deliveries import Delivery, DeliveryList

deliveries = Operations("deliveries", __name__, tag="webhooks")


@deliveries.operation(
    "GET",
    "/v1/jobs/{job_id}/deliveries",
    parameters=(JOB_ID,),
    answers={200: Answer("At most one an event.", DeliveryList, examples.DELIVERIES)},
    problems=("job_not_found",),
)
def list_deliveries(here: RequestContext, job_id: str) -> Reply:
    """List the webhook deliveries of a job

    There is one from the moment that its event happened. They may outlive the job.
    """
    return _answer(here.services.outbox.of_job(job_id, here.caller.tenant))


@deliveries.operation(
    "POST",
    "/v1/jobs/{job_id}/deliveries/replay",
    changes=Action.DELIVERY_REPLAY,
    parameters=(JOB_ID,),
    answers={202: Answer("They are due now.", DeliveryList, examples.REPLAYED)},
    problems=("job_not_found",),
)
def replay_deliveries(here: RequestContext, job_id: str) -> Reply:
    """Deliver the webhooks of a job again

    Under the same `webhook-id` and with the same body, whether they were delivered, given up or wait for
    a retry. A receiver that had been failing is tried at once.
    """
    return _answer(here.services.outbox.replay(job_id, here.caller.tenant), 202)


@deliveries.operation(
    "GET",
    "/v1/dead-deliveries",
    parameters=(LIMIT,),
    answers={200: Answer("The newest of them.", DeliveryList, examples.DELIVERIES)},
    problems=("invalid_parameter",),
)
def list_dead_deliveries(here: RequestContext) -> Reply:
    """List webhook deliveries that were given up, newest first

    Replay those of a job with `POST /v1/jobs/{job_id}/deliveries/replay`.
    """
    limit = requests.count(here, "limit", default=PAGE, maximum=PAGE)
    return _answer(here.services.outbox.undelivered(here.caller.tenant, limit))


def _answer(found: list[Delivery], status: int = 200) -> Reply:
    return document({"data": [delivery.model_dump() for delivery in found]}, status)
