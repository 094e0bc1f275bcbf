"""What becomes of an event that was made up to try a webhook endpoint."""

import time

from api.http.request_context import RequestContext
from shared.domain.deliveries import Delivery
from shared.domain.errors import JobsError

TEST_SECONDS = 20.0
"""Longest wait for what becomes of a test: a send gets 15 s, and waits for its turn."""
LOOK_SECONDS = 0.1


def ended(here: RequestContext, delivery_id: str) -> Delivery | None:
    """A delivery once it has ended; None where it has not in time."""
    deadline = time.monotonic() + TEST_SECONDS
    while time.monotonic() < deadline and not here.services.lifecycle.draining:
        found = here.services.outbox.delivery(delivery_id, here.caller.tenant)
        if found is None or found.status != "pending":
            return found
        time.sleep(LOOK_SECONDS)
    return None


def status(delivery: Delivery | None) -> int:
    """What the endpoint answered. Raises `JobsError` where it has not."""
    if delivery is not None and delivery.response_status is not None:
        return delivery.response_status
    why = "it was not sent in time" if delivery is None else f"the fault is '{delivery.error}'"
    raise JobsError(f"The endpoint gave no answer: {why}.", code="webhook_unreachable")
