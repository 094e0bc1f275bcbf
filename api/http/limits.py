"""Rate limits of requests: who is counted, under which policies, what the answer says of it.

What a request is charged, and how its client stands afterwards, is one value, `RequestCharges`, from which
its answer gets the headers of draft-ietf-httpapi-ratelimit-headers-11. docs/limits.md is for users.
"""

from functools import lru_cache

import msgspec

from api.client_address import client_address
from api.http.caller import TICKET_CLIENT
from api.http.reply import Answered
from api.http.request_context import RequestContext
from api.services import Services
from api.state.limit_plan import Counted
from shared.domain.errors import RateLimited
from shared.domain.quotas import Charge, ClientCharges, Decision, Policy, QuotaStatus


class RequestCharges(msgspec.Struct, frozen=True):
    """What a request to `endpoint` ("POST /v1/jobs") takes of the quotas of `client`.

    `pending` is still to be taken, None where nothing is. `quota_status` is how the client stands with what
    was; `refused` is what had no room, None where everything fitted.
    """

    services: Services
    endpoint: str
    client: str
    pending: ClientCharges | None
    quota_status: tuple[QuotaStatus, ...] = ()
    refused: QuotaStatus | None = None

    def after(self, decision: Decision | None) -> "RequestCharges":
        """Once `pending` was decided on; None: nothing was."""
        if decision is None:
            return self
        said = self.quota_status + decision.quota_status
        return RequestCharges(
            self.services, self.endpoint, self.client, None, said, decision.refused
        )

    def with_tokens(self, tokens: int) -> "RequestCharges":
        """With the estimated tokens of a submission due as well."""
        policies = self.services.limits.plan.tokens()
        if not policies:
            return self
        due = self.pending.charges if self.pending is not None else ()
        due += tuple(Charge(policy, tokens) for policy in policies)
        return msgspec.structs.replace(self, pending=ClientCharges(self.client, due))

    def commit(self) -> "RequestCharges":
        """Take what is due now, in a call of its own."""
        if self.pending is None:
            return self
        return self.after(self.services.limits.limiter.take(self.client, self.pending.charges))

    def refusal(self) -> RateLimited:
        """What to answer where a charge had no room. Observers are told."""
        assert self.refused is not None, "asked of a request that was admitted"
        policy, seconds = self.refused.policy, _seconds(self.refused.wait_ms)
        self.emit_refusal(policy.name)
        return RateLimited(
            f"The limit '{policy.name}' is {policy.quota} {policy.unit} in {policy.seconds} s. "
            f"Try again in {seconds} s.",
            retry_after=max(1, seconds),
        )

    def emit_refusal(self, policy: str) -> None:
        """Tell observers that the request was refused by this policy."""
        method, _, path = self.endpoint.partition(" ")
        self.services.observers.emit("request_limited", method, path, policy)


def charges_of(here: RequestContext, endpoint: str, counted: Counted) -> RequestCharges:
    """What a request of a known caller is to be charged, all of it due."""
    caller, services = here.caller, here.services
    due = services.limits.charges(endpoint, counted, caller.rpm, caller.rph)
    return _due(services, endpoint, client_name(here), due)


def charges_of_address(here: RequestContext, endpoint: str, counted: Counted) -> RequestCharges:
    """What a request of somebody unknown is to be charged, to the address as if that were a client."""
    due = here.services.limits.charges(endpoint, counted, None, None)
    return _due(here.services, endpoint, _address(here), due)


def charges_of_stranger(here: RequestContext, endpoint: str) -> RequestCharges:
    """What a request without a valid token is to be charged to its address."""
    due = tuple(map(Charge, here.services.limits.plan.strangers()))
    return _due(here.services, endpoint, _address(here), due)


def _due(services: Services, endpoint: str, client: str, due: tuple[Charge, ...]) -> RequestCharges:
    return RequestCharges(services, endpoint, client, ClientCharges(client, due) if due else None)


def charge_for_error(error: Exception, charges: RequestCharges) -> tuple[Exception, RequestCharges]:
    """Take what is still due of a request that failed with `error`. Returns what to answer: the error,
    unless the charge has no room.
    """
    charges = charges.commit()
    return (charges.refusal() if charges.refused is not None else error), charges


def client_name(here: RequestContext) -> str:
    """Whom a request counts for: a key by its id; an address where a ticket stands for one."""
    caller = here.caller
    return _address(here) if caller is TICKET_CLIENT else f"key:{caller.key_id}"


def with_quota_status(answer: Answered, charges: RequestCharges) -> Answered:
    """The answer with the headers that say how its client stands, where a limit touched it."""
    said = charges.quota_status
    if said:
        answer.headers["RateLimit-Policy"] = ", ".join([_policy_item(one.policy) for one in said])
        answer.headers["RateLimit"] = ", ".join([_state_item(one) for one in said])
    return answer


@lru_cache(maxsize=1024)
def _policy_item(policy: Policy) -> str:
    unit = "" if policy.unit == "requests" else f';qu="{policy.unit}"'
    return f'"{policy.name}";q={policy.quota}{unit};w={policy.seconds}'


def _state_item(status: QuotaStatus) -> str:
    return f'"{status.policy.name}";r={status.remaining};t={_seconds(status.wait_ms)}'


def _seconds(milliseconds: int) -> int:
    return -(-milliseconds // 1000)


def address_of(here: RequestContext) -> str:
    """From where a request comes, seen through the proxies that the operator trusts."""
    request, proxies = here.request, here.services.limits.proxies
    forwarded = request.headers.getlist("X-Forwarded-For")
    return client_address(request.remote_addr, forwarded, proxies)


def _address(here: RequestContext) -> str:
    return f"ip:{address_of(here)}"
