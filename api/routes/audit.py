"""`GET /v1/admin/audit`: which changes administrators have made, and who signed in at the console."""

from typing import Any

from pydantic import BaseModel, Field

from api.http import requests
from api.http.answers import document
from api.http.auth import require_operator
from api.http.operations import Answer, Operations, Parameter
from api.http.parameters import LIMIT, MOMENT, PAGE
from api.http.reply import Reply
from api.http.request_context import RequestContext
from shared.domain.audit import Action, Change, Via
from shared.domain.errors import InvalidRequest
from shared.domain.schemas import rfc3339
from shared.store.api_keys import Scope
from shared.store.audit import Wanted

audit = Operations("audit", __name__)


class AuditedChange(BaseModel):
    """A change that an administrator has made, or was refused, or a sign-in at the console."""

    id: str
    at: str = Field(description="When it began.")
    action: Action
    targets: list[str] = Field(description="The ids of what was to change.")
    note: str = Field(description="What else there is to say, such as the tenant of a new key.")
    outcome: str = Field(
        description="`done`, or the code of what refused it; `begun`: it goes on, or its process died."
    )
    tenant: str = Field(
        description="Whose key it was; of a sign-in that was refused, and so has no key, `default`."
    )
    key_id: str = Field(description="With which key; `default`: with the server's own token.")
    user: str = Field(
        description="Of a command that writes to Redis itself: the system's account that ran it."
    )
    via: Via
    session: str = Field(description="Which session of the console.")
    address: str = Field(description="From where: an address, or of a command the machine's name.")
    user_agent: str
    request_id: str


class AuditPage(BaseModel):
    """Changes, the newest first."""

    data: list[AuditedChange]
    next_cursor: str | None


CHANGE: dict[str, Any] = {
    "id": "audit_019aa61c4f3b8f0e3c5d7a9b1e2f4a6c",
    "at": "2025-11-21T16:01:27.099Z",
    "action": "breaker.reset",
    "targets": ["demo-llama"],
    "note": "",
    "outcome": "done",
    "tenant": "default",
    "key_id": "91d2c7a04be6f318",
    "user": "",
    "via": "console",
    "session": "mXw3kq9aLr0Z",
    "address": "192.0.2.7",
    "user_agent": "Mozilla/5.0",
    "request_id": "req_5f2c9d1e7ab34c6d8e90f1a2",
}


@audit.operation(
    "GET",
    "/v1/admin/audit",
    scope=Scope.ADMIN,
    parameters=(
        Parameter(
            "action",
            "query",
            "Only changes of this kind.",
            {"type": "string", "enum": [action.value for action in Action]},
            "key.revoke",
        ),
        Parameter(
            "by", "query", "Only changes with this key, or by this account of the command line."
        ),
        Parameter("target", "query", "Only changes of what has this id.", example="demo-llama"),
        Parameter(
            "tenant",
            "query",
            "Only changes by administrators of this tenant. For the server's administrator, who otherwise "
            "sees those of all; others see those of their own.",
        ),
        Parameter(
            "since", "query", "Only changes from this time on.", MOMENT, "2025-11-21T00:00:00Z"
        ),
        Parameter(
            "until", "query", "Only changes before this time.", MOMENT, "2025-11-22T00:00:00Z"
        ),
        LIMIT,
        Parameter(
            "cursor",
            "query",
            "`next_cursor` of the page before.",
            {"type": "string", "pattern": "^audit_[0-9a-f]{32}$"},
        ),
    ),
    answers={200: Answer("A page of changes.", AuditPage, {"data": [CHANGE], "next_cursor": None})},
    problems=("invalid_parameter", "invalid_cursor"),
)
def list_audited_changes(here: RequestContext) -> Reply:
    """List the changes that administrators made

    Through the API, the console and the command line, and who signed in at the console, the newest first,
    for 90 days: of each tenant the last 10,000, and of changes of keys and of sign-ins the last 5,000 each.
    Follow `next_cursor` until it is null; a page may hold fewer than `limit` and still have a next one.
    """
    query = here.request.args
    found, cursor = here.services.audit.listing(
        whose(here, query.get("tenant")),
        Wanted(
            action=action_of(query.get("action")),
            by=query.get("by"),
            target=query.get("target"),
            since=requests.moment(here, "since"),
            until=requests.moment(here, "until"),
        ),
        limit=requests.count(here, "limit", default=PAGE, maximum=PAGE),
        cursor=query.get("cursor"),
    )
    return document({"data": [_told(change) for change in found], "next_cursor": cursor})


def whose(here: RequestContext, tenant: str | None) -> str | None:
    """Of which tenant's administrators the caller is told; None: of all. Raises `Forbidden`."""
    own = here.caller.tenant
    if tenant not in (None, own):
        require_operator(here)
    return tenant or (None if here.caller.operates else own)


def action_of(given: str | None) -> Action | None:
    """The action of this name; None asks for any. Raises `InvalidRequest` where there is none."""
    if given is not None and given not in set(Action):
        raise InvalidRequest(
            f"'action' must be one of {', '.join(Action)}, not {given[:40]!r}.",
            code="invalid_parameter",
        )
    return None if given is None else Action(given)


def _told(change: Change) -> dict[str, Any]:
    return {
        "id": change.id,
        "at": rfc3339(change.at),
        "action": change.action,
        "targets": change.targets,
        "note": change.note,
        "outcome": change.outcome,
        "tenant": change.tenant,
        "key_id": change.key_id,
        "user": change.user,
        "via": change.via,
        "session": change.session,
        "address": change.address,
        "user_agent": change.agent,
        "request_id": change.request_id,
    }
