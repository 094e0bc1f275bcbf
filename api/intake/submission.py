"""A request as a job that is ready to be stored: read, checked, and estimated. Nothing is stored yet."""

import hashlib
import random
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec
from msgspec.structs import replace

from api.http.request_context import RequestContext
from api.http.requests import Sent, sent
from api.intake.cost import estimated
from api.intake.input_files import check_input_files
from api.intake.subscriptions import subscription
from shared import context
from shared.domain.errors import InputRefused, InvalidRequest
from shared.domain.models.catalog import ModelSpec
from shared.domain.records import NewJob, new_job_id
from shared.domain.requests.parsing import parse_request
from shared.domain.schemas import DEFAULT_EXPIRES_IN


class Submission(msgspec.Struct, frozen=True):
    """A checked request, ready to be stored. `spec` is its model, `tenant_max` its tenant's limit of waiting
    jobs, `max_bytes` what that one may store; `tokens` is what it is estimated to be charged; `asked` and
    `seed` are what the same request for another model is made of.
    """

    job: NewJob
    spec: ModelSpec
    tenant_max: int | None
    max_bytes: int | None
    tokens: int
    asked: Sent
    seed: int


def read_submission(here: RequestContext) -> Submission:
    """A request as a job. Raises `JobsError` for everything that is wrong with it."""
    asked = sent(here)
    return submission_of(here, asked, digest_of(asked.body) if asked.key is not None else "")


def submission_of(
    here: RequestContext, asked: Sent, digest: str, webhook_form: str = ""
) -> Submission:
    """What was sent as a job of the caller's; one with the same key and digest is the same job."""
    services, caller = here.services, here.caller
    wanted, spec, params, content, told = parse_request(asked.body, services.catalog)
    services.prompt_bounds.check(spec, content, params)
    services.grammars.check(params, content)
    check_input_files(here, spec, content)
    cost, seed = estimated(spec, content, params), _seed(params.get("seed"))
    job = NewJob(
        id=new_job_id(),
        model=spec.name,
        tenant=caller.tenant,
        request=_encoded(content, told, seed),
        priority=wanted.priority,
        cost=cost.share,
        expires_in=wanted.expires_in or DEFAULT_EXPIRES_IN,
        metadata=wanted.metadata,
        traceparent=context.traceparent(),
        request_id=here.request_id,
        idempotency_key=asked.key,
        webhook=subscription(here, wanted.webhook, webhook_form)
        if wanted.webhook is not None
        else "",
        share=services.cache.share(spec, caller.tenant, content, params, bypass=asked.no_store),
        body_digest=digest,
        expected=cost.bytes,
        keeps_request=services.settings.keep_requests,
    )
    context.bind(job=job.id, model=spec.name)
    own_max, own_bytes = tenant_max(here), tenant_bytes(here)
    return Submission(job, spec, own_max, own_bytes, cost.tokens, asked, seed)


def tenant_max(here: RequestContext) -> int | None:
    """How many jobs of the caller's tenant may wait for one model."""
    own = here.caller.max_queued
    return here.services.settings.tenant_max_queued if own is None else own


def tenant_bytes(here: RequestContext) -> int | None:
    """How many bytes the caller's tenant may store; 0: no limit, None: the store's own."""
    own = here.caller.max_bytes
    return here.services.settings.tenant_max_bytes if own is None else own


def stand_ins(here: RequestContext, submission: Submission) -> Iterator[Submission]:
    """A submission for each fallback model that takes its request, with the same id and Idempotency-Key."""
    services, asked = here.services, submission.asked
    for spec in services.catalog.fallbacks(submission.spec.name):
        try:
            body = {**asked.body, "model": spec.name}
            _, _, params, content, told = parse_request(body, services.catalog)
            services.prompt_bounds.check(spec, content, params)
        except (InvalidRequest, InputRefused):
            # This fallback does not take such a request; the next one may.
            continue
        cost = estimated(spec, content, params)
        job = replace(
            submission.job,
            model=spec.name,
            request=_encoded(content, told, submission.seed),
            cost=cost.share,
            share=services.cache.share(
                spec, here.caller.tenant, content, params, bypass=asked.no_store
            ),
            fallback_from=submission.spec.name,
            expected=cost.bytes,
        )
        yield replace(submission, job=job, spec=spec)


def _encoded(content: Any, told: dict[str, Any], seed: int) -> bytes:
    """The payload of a job: its input and parameters as JSON, which the worker reads."""
    return msgspec.json.encode({"content": content, "params": told, "seed": seed})


def _seed(given: object) -> int:
    if isinstance(given, int) and not isinstance(given, bool) and given >= 0:
        return given
    return random.getrandbits(63)


def digest_of(body: Mapping[str, object]) -> str:
    """What tells a body from others of the same idempotency key, whatever the order of its members."""
    return hashlib.sha256(msgspec.json.encode(body, order="sorted")).hexdigest()
