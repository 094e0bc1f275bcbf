"""Rate limits of requests: who is counted, under which policies, what the answer says of it.

The headers are those of draft-ietf-httpapi-ratelimit-headers-11. docs/limits.md is for users.
"""

from collections.abc import Sequence
from functools import lru_cache

from api.http import request_context
from api.http.auth import TICKET_CLIENT, client
from api.http.limits.client_address import client_address
from api.http.limits.plan import Counted, Limits
from api.http.limits.slots import Slot
from api.http.reply import Answered
from api.services import services
from shared.domain.errors import RateLimited
from shared.store.rate_limits import Decision, decided
from shared.store.sliding_window import Charge, Policy, Standing

LIGHT = 16 * 1024
"""Bytes of a body that is read before its request is charged: no more than a look at it costs."""


def admit(endpoint: str, counted: Counted, *, later: bool = False) -> None:
    """Charge the current request to its client. Raises `RateLimited`.

    `later`: in the call that makes its job (see `charging`), if its body is light; `settle` if there is none.
    """
    here, caller = request_context.handling(), client()
    here.endpoint = endpoint
    charges = _limits().charges(endpoint, counted, caller.rpm, caller.rph)
    length = here.environ.get("CONTENT_LENGTH") or ""
    if later and length.isdigit() and int(length) <= LIGHT:
        here.charges = charges
    else:
        _charge(charges)


class _Charging:
    """What the current request is still to be charged, for `shared.store.jobs.Charging`."""

    def __init__(self, charges: Sequence[Charge]) -> None:
        self._charges = charges
        self.packed = _limits().limiter.packed(client_name(), charges)

    def told(self, admitted: bool, rows: Sequence[int]) -> None:
        request_context.handling().charges = ()
        _note(decided(self._charges, admitted, rows))


def charging() -> _Charging | None:
    """What is to be charged with the job that is about to be made; None where all is charged."""
    charges = request_context.handling().charges
    return _Charging(charges) if charges else None


def settle() -> None:
    """Charge what no job was charged with. Raises `RateLimited`."""
    here = request_context.handling()
    charges, here.charges = here.charges, ()
    _charge(charges)


def take_slot() -> Slot:
    """A place for the current request beside its client's others that are open. Raises `RateLimited`."""
    return _slot(client_name())


def admit_address(endpoint: str, counted: Counted) -> Slot:
    """Charge a request of somebody unknown to its address, as if that were the client, before anything of it
    is read; a place for it beside the address's others that are open. Raises `RateLimited`.
    """
    request_context.handling().endpoint = endpoint
    _charge(_limits().charges(endpoint, counted, None, None), name=_address())
    return _slot(_address())


def known_after_all() -> None:
    """The current request is charged to its client as well: what it tells of limits are that one's."""
    request_context.handling().standings = []


def _slot(name: str) -> Slot:
    try:
        return services().slots.enter(name)
    except RateLimited:
        method, _, path = request_context.handling().endpoint.partition(" ")
        services().observers.emit("request_limited", method, path, "open")
        raise


def admit_stranger(endpoint: str) -> None:
    """Charge a request without a valid token to its address. Raises `RateLimited`."""
    request_context.handling().endpoint = endpoint
    _charge([Charge(policy) for policy in _limits().plan.strangers()], name=_address())


def admit_tokens(tokens: int) -> None:
    """Charge a submission's tokens, estimated, to its client, with all else that is to be charged.

    Raises `RateLimited`.
    """
    here = request_context.handling()
    charges = tuple(Charge(policy, tokens) for policy in _limits().plan.tokens()) if tokens else ()
    if here.charges:
        here.charges += charges
    else:
        _charge(charges)


def client_name() -> str:
    """Whom the current request counts for: a key by its id; an address where a ticket stands for one."""
    caller = client()
    return _address() if caller is TICKET_CLIENT else f"key:{caller.key_id}"


def tell(answer: Answered) -> None:
    """Add the headers to an answer that a limit touched."""
    standings = request_context.handling().standings
    if standings:
        answer.headers["RateLimit-Policy"] = ", ".join(
            [_policy_item(standing.policy) for standing in standings]
        )
        answer.headers["RateLimit"] = ", ".join([_state_item(standing) for standing in standings])


def _charge(charges: Sequence[Charge], *, name: str | None = None) -> None:
    if charges:
        _note(_limits().limiter.take(name or client_name(), charges))


def _note(decision: Decision) -> None:
    here = request_context.handling()
    here.standings += decision.standings
    if decision.refused is not None:
        method, _, path = here.endpoint.partition(" ")
        services().observers.emit("request_limited", method, path, decision.refused.policy.name)
        raise _too_many(decision.refused)


def _too_many(refused: Standing) -> RateLimited:
    policy = refused.policy
    seconds = _seconds(refused.wait_ms)
    return RateLimited(
        f"The limit {policy.name!r} is {policy.quota} {policy.unit} in {policy.seconds} s. "
        f"Try again in {seconds} s.",
        retry_after=max(1, seconds),
    )


@lru_cache(maxsize=1024)
def _policy_item(policy: Policy) -> str:
    unit = "" if policy.unit == "requests" else f';qu="{policy.unit}"'
    return f'"{policy.name}";q={policy.quota}{unit};w={policy.seconds}'


def _state_item(standing: Standing) -> str:
    return f'"{standing.policy.name}";r={standing.remaining};t={_seconds(standing.wait_ms)}'


def _seconds(milliseconds: int) -> int:
    return -(-milliseconds // 1000)


def _address() -> str:
    request = request_context.request()
    forwarded = request.headers.getlist("X-Forwarded-For")
    return f"ip:{client_address(request.remote_addr, forwarded, _limits().proxies)}"


def _limits() -> Limits:
    return services().limits
