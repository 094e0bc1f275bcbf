"""API keys as people and programs are told of them."""

from typing import Any

from shared.domain.schemas import timestamp
from shared.store.api_keys import LIMITS, ApiKey


def document(key: ApiKey, now: float) -> dict[str, Any]:
    """A key as the API and the command line tell it. `now` is in Unix seconds."""
    grant = key.grant
    return {
        "id": key.id,
        "object": "api_key",
        "tenant": grant.tenant,
        "scopes": sorted(grant.scopes),
        "state": key.state(now),
        **{name: getattr(grant, name) for name in LIMITS},
        "note": grant.note,
        "created_at": timestamp(key.created),
        "expires_at": timestamp(grant.expires),
        "last_used_at": timestamp(key.used),
    }


def difference(old: ApiKey, new: ApiKey) -> str:
    """What a change has made of a key, for its entry in the audit log: `rpm 30 to 60, expires none to …`."""
    told = []
    for name in (*LIMITS, "expires", "note"):
        before, after = getattr(old.grant, name), getattr(new.grant, name)
        if before != after:
            shown = [timestamp(one) if name == "expires" else one for one in (before, after)]
            told.append(
                f"{name} {' to '.join('none' if x in (None, '') else str(x) for x in shown)}"
            )
    return f"{new.grant.tenant}: {', '.join(told) or 'nothing'}"
