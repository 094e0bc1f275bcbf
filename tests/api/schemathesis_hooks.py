"""Loaded by schemathesis (`SCHEMATHESIS_HOOKS`): what a schema cannot say about valid requests."""

import json
import os
from collections import Counter
from typing import Any

import schemathesis
from schemathesis.checks import not_a_server_error
from schemathesis.generation.meta import TestPhase
from schemathesis.specs.openapi.checks import positive_data_acceptance

UNFORESEEN = {
    "idempotency_mismatch",
    "invalid_cursor",
    "webhook_refused",
    "webhook_secret_missing",
}
"""422, or 400 on OpenAI's routes, by what was sent before (a key used with another body, a cursor beyond the
job's last event), or by what only the server knows: where a name resolves to, and its settings."""
BY_MODEL = "invalid_input"
"""422 by the model that a path or a version names, whose schema no schema of a body can be."""


FIRST = 20
STRIDE = int(os.environ["BOUNDARY_STRIDE"])
"""Of the boundary values of one operation the first ones are sent, and each so many-th of the others."""

_seen = Counter[str]()


@schemathesis.hook
def filter_case(context: Any, case: Any) -> bool:
    """Whether a case is sent: some operations have a thousand boundary values."""
    if case.meta.phase.name != TestPhase.COVERAGE:
        return True
    number = _seen[context.operation.label]
    _seen[context.operation.label] += 1
    return number < FIRST or number % STRIDE == 0


@schemathesis.check
def valid_requests_are_accepted(ctx: Any, response: Any, case: Any) -> bool | None:
    """`positive_data_acceptance`, save for refusals that no schema could foresee."""
    if response.status_code in (400, 422) and response.content.startswith(b"{"):
        code = json.loads(response.content)["code"]
        if code in UNFORESEEN or (code == BY_MODEL and case.path.endswith("/predictions")):
            return None
    return positive_data_acceptance(ctx, response, case)  # type: ignore[no-any-return]


@schemathesis.check
def nothing_breaks(ctx: Any, response: Any, case: Any) -> bool | None:
    """`not_a_server_error`, save for jobs that were given less time than it takes to answer."""
    if response.status_code == 504 and json.loads(response.content)["code"] == "job_expired":
        return None
    return not_a_server_error(ctx, response, case)  # type: ignore[no-any-return]
