"""`/v1/admin/keys`: which API keys there are, and what may change of one that is in use.

No call makes a key or shows a token: decision 14.
"""

import time
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from api.http import requests
from api.http.answers import document
from api.http.auth import require_operator
from api.http.operations import Answer, Operations, Parameter
from api.http.parameters import LIMIT, PAGE
from api.http.reply import Reply
from api.http.request_context import RequestContext
from shared.domain.audit import Action
from shared.domain.errors import ConfigError, InvalidRequest, JobsError
from shared.domain.requests.request_faults import invalid
from shared.domain.schemas import epoch_ms
from shared.store import described_keys
from shared.store.api_keys import MAX_NOTE, ApiKey, Scope

MOST = 2**53 - 1
"""The largest limit: programs in JavaScript read larger numbers as others."""

keys = Operations("keys", __name__)


class ApiKeyDocument(BaseModel):
    """An API key, without its token. Of a limit that is null the server's own counts."""

    id: str
    object: Literal["api_key"]
    tenant: str
    scopes: list[Scope]
    state: Literal["active", "revoked", "expired"]
    rpm: int | None = Field(description="Jobs a minute.")
    rph: int | None = Field(description="Jobs an hour.")
    max_queued: int | None = Field(description="Jobs of its tenant that may wait.")
    max_bytes: int | None = Field(description="Bytes that its tenant may store; 0: any number.")
    note: str = Field(description="What the key is for.")
    created_at: str
    expires_at: str | None
    last_used_at: str | None


class ApiKeyPage(BaseModel):
    """Keys, the newest first."""

    data: list[ApiKeyDocument]
    next_cursor: str | None


def _whole(given: Any) -> Any:
    """A number as JSON Schema takes it: `248.0` is a whole one, too."""
    return int(given) if isinstance(given, float) and given.is_integer() else given


Count = Annotated[int, Field(ge=1, le=MOST), BeforeValidator(_whole)]


class KeyChange(BaseModel):
    """The body of `PATCH /v1/admin/keys/{key_id}` (RFC 7396): what is left out stays as it is; a limit that
    is null is the server's own, an expiry that is null never comes.
    """

    model_config = ConfigDict(extra="forbid", strict=True)

    rpm: Count | None = Field(default=None, description="Jobs a minute.")
    rph: Count | None = Field(default=None, description="Jobs an hour.")
    max_queued: Count | None = None
    max_bytes: Annotated[int, Field(ge=0, le=MOST), BeforeValidator(_whole)] | None = Field(
        default=None, description="0: any number."
    )
    expires_at: str | None = Field(
        default=None,
        description="From when on it is refused: a time to come, by RFC 3339, at most five years from now.",
        json_schema_extra={"format": "date-time"},
    )
    note: str | None = Field(default=None, max_length=MAX_NOTE, description="On one line.")


KEY_ID = Parameter(
    "key_id",
    "path",
    "The key's `id`, which is the part of its token between `tgk_` and the next `_`.",
    {"type": "string", "pattern": "^[0-9a-f]{16}$"},
    "4f1c2a9be04d5b7f",
)
KEY: dict[str, Any] = {
    "id": "4f1c2a9be04d5b7f",
    "object": "api_key",
    "tenant": "acme",
    "scopes": ["jobs:read", "jobs:write"],
    "state": "active",
    "rpm": 300,
    "rph": None,
    "max_queued": 1000,
    "max_bytes": None,
    "note": "nightly reports",
    "created_at": "2025-11-21T16:01:27.099Z",
    "expires_at": "2026-11-21T00:00:00.000Z",
    "last_used_at": None,
}


@keys.operation(
    "GET",
    "/v1/admin/keys",
    scope=Scope.ADMIN,
    parameters=(
        Parameter("tenant", "query", "Only keys of this tenant.", example="acme"),
        LIMIT,
        Parameter("cursor", "query", "`next_cursor` of the page before.", KEY_ID.schema),
    ),
    answers={200: Answer("A page of keys.", ApiKeyPage, {"data": [KEY], "next_cursor": None})},
    problems=("invalid_parameter", "invalid_cursor"),
)
def list_api_keys(here: RequestContext) -> Reply:
    """List the API keys

    Newest first, those that ended in the last 30 days too. The server's own token is not among them. It
    takes a key with the scope `admin` of the tenant `default`.
    """
    require_operator(here)
    asked, now = here.request.args, time.time()
    limit = requests.count(here, "limit", default=PAGE, maximum=PAGE)
    found, more = here.services.keys.stored.page(
        limit, tenant=asked.get("tenant"), after=asked.get("cursor")
    )
    rows = [described_keys.document(key, now) for key in found]
    return document({"data": rows, "next_cursor": rows[-1]["id"] if more else None})


@keys.operation(
    "GET",
    "/v1/admin/keys/{key_id}",
    scope=Scope.ADMIN,
    parameters=(KEY_ID,),
    answers={200: Answer("The key.", ApiKeyDocument, KEY)},
    problems=("api_key_not_found",),
)
def get_api_key(here: RequestContext, key_id: str) -> Reply:
    """Read an API key

    Without its token, which nothing shows again. It takes a key with the scope `admin` of the tenant
    `default`.
    """
    require_operator(here)
    key = here.services.keys.stored.find(key_id)
    if key is None:
        raise _unknown(key_id)
    return document(described_keys.document(key, time.time()))


@keys.operation(
    "PATCH",
    "/v1/admin/keys/{key_id}",
    scope=Scope.ADMIN,
    changes=Action.KEY_UPDATE,
    parameters=(KEY_ID,),
    body=KeyChange,
    body_examples={
        "other limits": {"rpm": 600, "max_queued": None},
        "end of the year": {"expires_at": "2026-12-31T23:59:59Z"},
    },
    answers={200: Answer("The key as it is now.", ApiKeyDocument, KEY)},
    problems=(
        *("malformed_json", "unsupported_media_type", "body_too_large", "invalid_request"),
        *("api_key_not_found", "api_key_ended"),
    ),
)
def update_api_key(here: RequestContext, key_id: str) -> Reply:
    """Change an API key's limits, expiry or note

    Its token stays as it is, and servers follow within a second. Send what is to change alone; `null` takes
    a limit back to the server's own, and an expiry away. Tenant and scopes are those that it was made with.
    It takes a key with the scope `admin` of the tenant `default`.
    """
    require_operator(here)
    new = updated(here, key_id, _changes(here))
    return document(described_keys.document(new, time.time()))


def updated(
    here: RequestContext, key_id: str, changes: Mapping[str, int | float | str | None]
) -> ApiKey:
    """Change a key and say in the audit log what of it. Raises `JobsError` as the API tells it."""
    try:
        old, new = here.services.keys.stored.update(key_id, **changes)
    except ConfigError as error:
        if error.code == "api_key_not_found":
            raise _unknown(key_id) from None
        if error.code == "api_key_ended":
            raise JobsError(
                f"{error.detail[:1].upper()}{error.detail[1:]}.", code=error.code
            ) from None
        raise InvalidRequest(f"{error.detail}.") from None
    here.changes(note=described_keys.difference(old, new))
    return new


def _changes(here: RequestContext) -> dict[str, int | float | str | None]:
    try:
        asked = KeyChange.model_validate(requests.json_object(here))
    except ValidationError as error:
        raise invalid(error) from None
    changes: dict[str, int | float | str | None] = asked.model_dump(exclude_unset=True)
    if "expires_at" in changes:
        changes["expires"] = _expiry(changes.pop("expires_at"))
    if "note" in changes:
        changes["note"] = changes["note"] or ""
    return changes


def _expiry(given: Any) -> float | None:
    if given is None:
        return None
    at = epoch_ms(given)
    if at is None:
        message = f"must be a time such as 2026-12-31T23:59:59Z, not {given[:40]!r}"
        row = {"loc": ["expires_at"], "msg": message, "type": "datetime_parsing"}
        raise InvalidRequest(f"expires_at: {message}.", errors=[row])
    return at / 1000


def _unknown(key_id: str) -> JobsError:
    return JobsError(f"There is no API key {key_id[:40]!r}.", code="api_key_not_found")
