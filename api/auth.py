"""Who calls: a bearer token, or a ticket where a route takes one, or somebody on this machine."""

import hmac
import ipaddress
from enum import StrEnum

from flask import g, request

from api.services import services
from shared.errors import JobsError
from shared.jobs import ANY_TENANT

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
    """What a route asks for. `LOCAL`: the token, except from this machine itself."""

    OPEN = "open"
    TOKEN = "token"
    TICKET = "ticket"
    LOCAL = "local"


class Unauthorized(JobsError):
    code = "unauthorized"


def authenticate(access: Access) -> None:
    """Put the caller's tenant into `g.tenant`. Raises `Unauthorized`."""
    if access is Access.OPEN:
        return
    header = request.headers.get("Authorization")
    if header is None and access is Access.LOCAL and _from_this_machine():
        g.tenant = DEFAULT_TENANT
        return
    if header is None and access is Access.TICKET and "ticket" in request.args:
        job_id = (request.view_args or {}).get("job_id", "")
        if not services().tickets.admits(request.args["ticket"], job_id):
            raise Unauthorized(
                "This ticket has expired or is not for this job. Get the job again for a new one."
            )
        # The ticket names the job itself, whoever owns it.
        g.tenant = ANY_TENANT
        return
    if header is None:
        raise Unauthorized("Send the API token as 'Authorization: Bearer <token>'.")
    scheme, _, token = header.partition(" ")
    if scheme.lower() != "bearer" or not _same(token.strip(), services().token):
        raise Unauthorized("The token in the Authorization header is not valid here.")
    g.tenant = DEFAULT_TENANT


def tenant() -> str:
    """The tenant of the current request."""
    found: str = g.tenant
    return found


def _from_this_machine() -> bool:
    if any(name in request.headers for name in PROXIES):
        return False
    try:
        return ipaddress.ip_address(request.remote_addr or "").is_loopback
    except ValueError:
        return False


def _same(given: str, expected: str) -> bool:
    return hmac.compare_digest(given.encode("utf-8", "replace"), expected.encode())
