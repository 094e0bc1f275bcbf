"""What a request passes before the view of its route: token, scope, rate limits, a slot, its query."""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from wsgiref.types import WSGIEnvironment

from api.http.auth import Unauthorized, authenticate
from api.http.caller import Access
from api.http.errors import to_problem
from api.http.limits import (
    RequestCharges,
    charge_for_error,
    charges_of,
    charges_of_stranger,
    with_quota_status,
)
from api.http.reply import Answered
from api.http.request_context import RequestContext
from api.http.requests import known_query
from api.state.limit_plan import Counted
from shared.domain.errors import RateLimited
from shared.store.api_keys import Scope

View = Callable[..., Answered]
"""What answers a request: `view(here, **path)`, or `view(here, asked, charges)` behind a `Reads`."""
Reads = Callable[[RequestContext], object]
"""Reads and checks a submission. What it returns is an argument of the view that makes the job, as is what is
still to be charged, with the job (`RequestCharges`). Until it has returned nothing is."""
LIGHT = 16 * 1024
"""Bytes of a body that is read before its request is charged: no more than a look at it costs."""


@dataclass(frozen=True, slots=True)
class Gate:
    """What a request passes before its handler runs: the key, its scope, rate limits, the body's size."""

    access: Access
    scope: Scope
    query: frozenset[str]
    endpoint: str
    counted: Counted
    reads: Reads | None
    charged_first: bool

    def guard(self, view: View) -> View:
        """The view behind this gate. What is answered says how the client stands with its rate limits."""

        @functools.wraps(view)
        def guarded(here: RequestContext, **path: str) -> Answered:
            try:
                authenticate(here, self.access, self.scope)
            except Unauthorized as error:
                return _problem(here, error, charges_of_stranger(here, self.endpoint))
            charges = charges_of(here, self.endpoint, self.counted)
            if self.reads is None or self.charged_first or not _light(here.environ):
                charges = charges.commit()
                if charges.refused is not None:
                    return _problem(here, charges.refusal(), charges)
            try:
                slot = here.services.slots.enter(charges.client)
            except RateLimited as error:
                charges.emit_refusal("open")
                return _problem(here, error, charges)
            try:
                answer = self._answer(view, here, charges, path)
            except BaseException:
                slot.leave()
                raise
            # A stream is open until its last byte is out or its reader has gone.
            answer.call_on_close(slot.leave)
            return answer

        return guarded

    def _answer(
        self, view: View, here: RequestContext, charges: RequestCharges, path: dict[str, str]
    ) -> Answered:
        try:
            if here.environ.get("QUERY_STRING"):
                known_query(here.request, self.query)
            if self.reads is None:
                return with_quota_status(view(here, **path), charges)
            asked = self.reads(here)
        except Exception as error:  # noqa: BLE001 - whatever it is, it has an answer and was charged
            return _problem(here, error, charges)
        return view(here, asked, charges)


def _light(environ: WSGIEnvironment) -> bool:
    """Whether a request's body is small enough to be read before it is charged."""
    length = environ.get("CONTENT_LENGTH") or ""
    return length.isdigit() and int(length) <= LIGHT


def _problem(here: RequestContext, error: Exception, charges: RequestCharges) -> Answered:
    """The answer to a request that failed before its job was made, or makes none: it is charged too."""
    error, charges = charge_for_error(error, charges)
    return with_quota_status(to_problem(here, error), charges)
