"""Batches: a list with their progress, one of them, and a form for another one."""

import json
from dataclasses import replace
from typing import Any, Literal, get_args

from flask import Response

from api.console.blueprint import console
from api.console.shown import Step
from api.console.visit import ROOT, Visit
from api.openai.batches import BatchRequest, begin
from api.openai.calls import parsed
from shared.domain.audit import Action
from shared.domain.batches import Batch, BatchStatus
from shared.domain.files import File
from shared.store.batches import worked_lately

PAGE = 25
INPUTS = 50
"""Files that the form offers as an input: the newest."""
ENDPOINTS: tuple[str, ...] = get_args(BatchRequest.model_fields["endpoint"].annotation)
WINDOW: Literal["24h"] = "24h"
TIMES = (
    ("in_progress_at", Step("Checked", kind="running")),
    ("cancelling_at", Step("Cancel asked for")),
    ("finalizing_at", Step("All gathered")),
    ("completed_at", Step("Completed", kind="succeeded")),
    ("failed_at", Step("Failed", kind="failed")),
    ("expired_at", Step("Expired", kind="failed")),
    ("cancelled_at", Step("Canceled")),
)
"""When a batch came to where it is: a field, and the step that it is the time of."""


@console.page("GET", "/batches")
def batches(visit: Visit) -> Response:
    """The tenant's batches, newest first."""
    return _list(visit)


@console.page("POST", "/batches", changes=Action.BATCH_CREATE)
def create_batch(visit: Visit) -> Response:
    """Make a batch of a file, as `POST /v1/batches` does."""
    given = {
        "input_file_id": visit.form.get("input", ""),
        "endpoint": visit.form.get("endpoint", ""),
        "completion_window": WINDOW,
    }
    made = begin(visit.here, parsed(BatchRequest, given), given)
    return visit.moved(f"{ROOT}/batches/{made.id}")


@console.page("GET", "/batches/<batch_id>")
def batch(visit: Visit, batch_id: str) -> Response:
    """One batch."""
    return _one(visit, visit.services.batches.get(batch_id, visit.caller.tenant))


@console.page("POST", "/batches/<batch_id>/cancel", changes=Action.BATCH_CANCEL)
def cancel_batch(visit: Visit, batch_id: str) -> Response:
    """Cancel a batch; what is finished stays."""
    found = visit.services.batches.cancel(batch_id, visit.caller.tenant)
    return _one(visit, found) if visit.asks_part else visit.moved(f"{ROOT}/batches/{batch_id}")


def _list(visit: Visit) -> Response:
    services, tenant = visit.services, visit.caller.tenant
    after = visit.request.args.get("after")
    found, more = services.batches.listing(tenant, limit=PAGE, after=after)
    inputs: list[File] = []
    if not visit.asks_part:  # The form is no part of what looks again every few seconds.
        inputs, _ = services.files.listing(tenant, purpose="batch", limit=INPUTS)
    return visit.page(
        "_batch_rows.html" if visit.asks_part else "batches.html",
        batches=found,
        after=found[-1].id if more else None,
        first=after is None,
        idle=_nobody_works(visit, found),
        inputs=inputs,
        chosen=visit.request.args.get("input", ""),
        endpoints=ENDPOINTS,
    )


def _one(visit: Visit, found: Batch) -> Response:
    return visit.page(
        "_batch.html" if visit.asks_part else "batch.html",
        batch=found,
        steps=steps(found),
        faults=_rows(found.errors),
        metadata=json.loads(found.metadata),
        idle=_nobody_works(visit, [found]),
        cancels=not found.ended and found.status is not BatchStatus.CANCELLING,
    )


def steps(found: Batch) -> list[Step]:
    """When a batch came to where it is, the first step first."""
    past = [replace(step, at=at * 1000) for name, step in TIMES if (at := getattr(found, name))]
    return [Step("Made", found.created * 1000), *sorted(past, key=lambda step: step.at or 0)]


def _rows(errors: str) -> list[dict[str, Any]]:
    return json.loads(errors) if errors else []


def _nobody_works(visit: Visit, found: list[Batch]) -> bool:
    """Whether a batch waits for a process that does not run."""
    return any(not one.ended for one in found) and not worked_lately(visit.services.store)
