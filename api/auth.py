"""Who calls and what they may do: a bearer token, or what a route takes in its place."""

import hmac
from dataclasses import dataclass
from enum import StrEnum
from urllib.parse import urlsplit

from api import current
from api.services import services
from shared.api_keys import Scope
from shared.errors import JobsError
from shared.jobs import ANY_TENANT
from shared.settings import is_loopback

DEFAULT_TENANT = "default"
PROXIES = (
    "Forwarded",
    "X-Forwarded-For",
    "X-Forwarded-Host",
    "X-Forwarded-Proto",
    "X-Real-IP",
    "Via",
)
"""Headers of a proxy: what it passes on comes from this machine's address and yet from elsewhere."""


class Access(StrEnum):
    """What a route asks for. `LOCAL`: a token, except from this machine itself."""

    OPEN = "open"
    TOKEN = "token"
    TICKET = "ticket"
    LOCAL = "local"


@dataclass(frozen=True, slots=True)
class Client:
    """Who calls. `scopes` are values of `Scope`; a limit that is None is the server's default."""

    key_id: str
    tenant: str
    scopes: frozenset[str]
    rpm: int | None = None
    rph: int | None = None
    max_queued: int | None = None
    max_bytes: int | None = None

    def may(self, scope: Scope) -> bool:
        return scope in self.scopes or Scope.ADMIN in self.scopes

    @property
    def operates(self) -> bool:
        """Whether this is the server's own administrator, to whom what all tenants share belongs."""
        return Scope.ADMIN in self.scopes and self.tenant == DEFAULT_TENANT


DEFAULT_CLIENT = Client("default", DEFAULT_TENANT, frozenset(Scope))
TICKET_CLIENT = Client("ticket", ANY_TENANT, frozenset({Scope.JOBS_READ}))
"""A ticket names the job itself, whoever owns it."""
LOCAL_CLIENT = Client("local", DEFAULT_TENANT, frozenset({Scope.METRICS}))


class Unauthorized(JobsError):
    code = "unauthorized"


class Forbidden(JobsError):
    code = "forbidden"


def authenticate(access: Access, scope: Scope) -> None:
    """Put the caller into `g.client`. Raises `Unauthorized`, or `Forbidden` without the scope."""
    if access is Access.OPEN:
        return
    caller = current.handling().client = _client(access)
    if not caller.may(scope):
        raise Forbidden(f"This key lacks the scope '{scope}' that this call needs.")


def client() -> Client:
    """Who makes the current request."""
    found = current.handling().client
    assert found is not None, "asked on a route that anybody may call"
    return found


def require_operator() -> None:
    """Raises `Forbidden` unless the server's own administrator calls."""
    if not client().operates:
        raise Forbidden("This touches every tenant: it takes a key of the default tenant.")


def tenant() -> str:
    """The tenant of the current request."""
    return client().tenant


def _client(access: Access) -> Client:
    here = current.handling()
    header = here.environ.get("HTTP_AUTHORIZATION")
    if header is None and access is Access.LOCAL and _from_this_machine():
        return LOCAL_CLIENT
    if header is None and access is Access.TICKET and "ticket" in here.request.args:
        job_id = (here.request.view_args or {}).get("job_id", "")
        if not services().tickets.admits(here.request.args["ticket"], job_id):
            raise Unauthorized(
                "This ticket has expired or is not for this job. Get the job again for a new one."
            )
        return TICKET_CLIENT
    scheme, _, token = (header or "").partition(" ")
    found = _holder(token.strip()) if scheme.lower() == "bearer" else None
    if found is None:
        # One answer for a missing token, a wrong one and one that has ended: none tells what exists.
        raise Unauthorized("Send a valid token as 'Authorization: Bearer <token>'.")
    return found


def _holder(token: str) -> Client | None:
    """Who holds this token. Raises `StoreUnavailable` where only Redis could tell."""
    here = services()
    if hmac.compare_digest(token.encode("utf-8", "replace"), here.token.encode()):
        return DEFAULT_CLIENT
    key = here.keys.check(token)
    if key is None:
        return None
    grant = key.grant
    limits = (grant.rpm, grant.rph, grant.max_queued, grant.max_bytes)
    return Client(key.id, grant.tenant, grant.scopes, *limits)


def _from_this_machine() -> bool:
    """Whether a program of this machine calls, and means this machine.

    A page in a browser here, whose name was rebound to this address, sends that name as its host.
    """
    request = current.request()
    if any(name in request.headers for name in PROXIES):
        return False
    host = urlsplit(f"//{request.host}").hostname or ""
    return is_loopback(request.remote_addr or "") and is_loopback(host)
