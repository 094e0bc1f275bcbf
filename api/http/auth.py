"""Who calls and what they may do: a bearer token, or what a route takes in its place."""

import hmac

from api.http.caller import DEFAULT_CLIENT, DEFAULT_TENANT, SCRAPER, TICKET_CLIENT, Access, Client
from api.http.request_context import RequestContext
from api.services import Services
from shared.domain.errors import JobsError
from shared.store.api_keys import ApiKey, Scope

SIGNED_IN = "truthgpt.signed_in"
"""Where the console puts the `Client` of a session for which it passes a call on. No request can set it:
what a client sends stands in the environment under names of WSGI's own."""


class Unauthorized(JobsError):
    code = "unauthorized"


class Forbidden(JobsError):
    code = "forbidden"


def authenticate(here: RequestContext, access: Access, scope: Scope) -> None:
    """Find out who sends it: `here.caller`. Raises `Unauthorized`, or `Forbidden` without the scope."""
    here.caller = caller = _client(here, access)
    if access is Access.METRICS and caller.tenant != DEFAULT_TENANT:
        raise Forbidden("These are of every tenant: it takes a key of the default tenant.")
    if not caller.may(scope):
        raise Forbidden(f"This key lacks the scope '{scope}' that this call needs.")


def require_operator(here: RequestContext) -> None:
    """Raises `Forbidden` unless the server's own administrator calls."""
    if not here.caller.operates:
        raise Forbidden("This touches every tenant: it takes a key of the default tenant.")


def _client(here: RequestContext, access: Access) -> Client:
    signed_in: Client | None = here.environ.get(SIGNED_IN)
    if signed_in is not None:
        return signed_in
    header = here.environ.get("HTTP_AUTHORIZATION")
    if header is None and access is Access.TICKET and "ticket" in here.request.args:
        job_id = (here.request.view_args or {}).get("job_id", "")
        if not here.services.tickets.admits(here.request.args["ticket"], job_id):
            raise Unauthorized(
                "This ticket has expired or is not for this job. Get the job again for a new one."
            )
        return TICKET_CLIENT
    scheme, _, token = (header or "").partition(" ")
    found = holder(here.services, token.strip(), access) if scheme.lower() == "bearer" else None
    if found is None:
        # One answer for a missing token, a wrong one and one that has ended: none tells what exists.
        raise Unauthorized("Send a valid token as 'Authorization: Bearer <token>'.")
    return found


def holder(here: Services, token: str, access: Access) -> Client | None:
    """Who holds this token; None: nobody. Raises `StoreUnavailable` where only Redis could tell."""
    if _is(token, here.token):
        return DEFAULT_CLIENT
    if access is Access.METRICS and _is(token, here.settings.metrics_token):
        return SCRAPER
    key = here.keys.check(token)
    return client_of(key) if key is not None else None


def client_of(key: ApiKey) -> Client:
    """The caller that a valid key stands for, with its tenant, scopes and limits."""
    grant = key.grant
    limits = (grant.rpm, grant.rph, grant.max_queued, grant.max_bytes)
    return Client(key.id, grant.tenant, grant.scopes, *limits)


def _is(token: str, secret: str | None) -> bool:
    given = token.encode("utf-8", "replace")
    return secret is not None and hmac.compare_digest(given, secret.encode())
