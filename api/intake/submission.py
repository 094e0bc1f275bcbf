"""A request as a job that is ready to be stored: read, checked, and estimated. Nothing is stored yet."""

import hashlib
import random
from collections.abc import Iterator
from typing import Any

import msgspec
from msgspec.structs import replace

from api.http import requests
from api.http.request_context import RequestContext
from api.intake import cost
from api.intake.subscriptions import subscription
from shared import context
from shared.domain.catalog import ModelSpec
from shared.domain.errors import InputRefused, InvalidRequest
from shared.domain.params import without_defaults
from shared.domain.records import NewJob, new_job_id
from shared.domain.schemas import DEFAULT_EXPIRES_IN, JobRequest, parse_request
from shared.domain.sharing import Share


class Submission(msgspec.Struct, frozen=True):
    """A checked request, ready to be stored. `max_queued` is its model's limit, `tenant_max` its tenant's,
    `max_bytes` what that one may store; `tokens` is what it is estimated to be charged; `body` and `seed` are
    what the same request for another model is made of.
    """

    job: NewJob
    max_queued: int
    tenant_max: int | None
    max_bytes: int | None
    tokens: int
    body: dict[str, Any]
    seed: int


def read_submission(here: RequestContext) -> Submission:
    """A request as a job. Raises `JobsError` for everything that is wrong with it."""
    key = requests.idempotency_key(here.environ)
    body = requests.json_object(here)
    return submission_of(here, body, key, _digest(body) if key is not None else "")


def submission_of(
    here: RequestContext, body: dict[str, Any], key: str | None, digest: str
) -> Submission:
    """A body as a job of the caller's; one with the same key and digest is the same job."""
    services, caller = here.services, here.caller
    wanted, spec, params = parse_request(body, services.catalog)
    services.prompt_bounds.check(spec, wanted.content)
    tokens = cost.estimated_tokens(spec, wanted.content, params)
    seed = _seed(params.get("seed"))
    job = NewJob(
        id=new_job_id(),
        model=spec.name,
        tenant=caller.tenant,
        request=_encoded(spec, wanted, params, seed),
        priority=wanted.priority,
        cost=cost.share(tokens),
        expires_in=wanted.expires_in or DEFAULT_EXPIRES_IN,
        metadata=wanted.metadata,
        traceparent=context.traceparent(),
        request_id=here.request_id,
        idempotency_key=key,
        webhook=subscription(here, wanted.webhook),
        share=_share(here, spec, wanted, params),
        body_digest=digest,
        expected=cost.expected_bytes(spec, wanted.content, params),
    )
    context.bind(job=job.id, model=spec.name)
    return Submission(
        job, spec.limits.max_queued, tenant_max(here), tenant_bytes(here), tokens, body, seed
    )


def tenant_max(here: RequestContext) -> int | None:
    """How many jobs of the caller's tenant may wait for one model."""
    own = here.caller.max_queued
    return here.services.settings.tenant_max_queued if own is None else own


def tenant_bytes(here: RequestContext) -> int | None:
    """How many bytes the caller's tenant may store; 0: no limit, None: the store's own."""
    own = here.caller.max_bytes
    return here.services.settings.tenant_max_bytes if own is None else own


def stand_ins(here: RequestContext, submission: Submission) -> Iterator[Submission]:
    """The same job for each fallback that takes such a request: one id, one Idempotency-Key."""
    catalog, asked = here.services.catalog, submission.job.model
    for spec in catalog.fallbacks(asked):
        try:
            wanted, _, params = parse_request({**submission.body, "model": spec.name}, catalog)
            here.services.prompt_bounds.check(spec, wanted.content)
        except (InvalidRequest, InputRefused):
            continue
        tokens = cost.estimated_tokens(spec, wanted.content, params)
        job = replace(
            submission.job,
            model=spec.name,
            request=_encoded(spec, wanted, params, submission.seed),
            cost=cost.share(tokens),
            share=_share(here, spec, wanted, params),
            fallback_from=asked,
            expected=cost.expected_bytes(spec, wanted.content, params),
        )
        yield replace(submission, job=job, max_queued=spec.limits.max_queued)


def _share(
    here: RequestContext, spec: ModelSpec, wanted: JobRequest, params: dict[str, Any]
) -> Share | None:
    bypass, tenant = requests.no_store(here.environ), here.caller.tenant
    return here.services.cache.share(spec, tenant, wanted.content, params, bypass=bypass)


def _encoded(spec: ModelSpec, wanted: JobRequest, params: dict[str, Any], seed: int) -> bytes:
    """What the worker gets."""
    return msgspec.json.encode(
        {"content": wanted.content, "params": without_defaults(spec.engine, params), "seed": seed}
    )


def _seed(given: object) -> int:
    if isinstance(given, int) and not isinstance(given, bool) and given >= 0:
        return given
    return random.getrandbits(63)


def _digest(body: dict[str, object]) -> str:
    return hashlib.sha256(msgspec.json.encode(body, order="sorted")).hexdigest()
