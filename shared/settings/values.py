"""Values of settings as people write them: lists, networks, limits of endpoints."""

import re
from ipaddress import ip_network
from typing import Annotated, Any

from pydantic import AfterValidator, StringConstraints

from shared.files import parse_storage

Origin = Annotated[
    str, StringConstraints(pattern=r"^https?://(\[[0-9a-f:.]+\]|[a-z0-9.-]+)(:[0-9]{1,5})?$")
]
"""An origin of a browser, as its `Origin` header has it."""

PublicUrl = Annotated[
    str,
    StringConstraints(
        pattern=r"^https?://(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(:[0-9]{1,5})?(/[A-Za-z0-9._~-]+)*/?$"
    ),
    AfterValidator(lambda url: url.removesuffix("/")),
]
"""An address without query, and without a slash at its end."""

TraceUrl = Annotated[
    str, StringConstraints(pattern=r"^https?://[^\s{}\"'<>]*\{trace_id\}[^\s{}\"'<>]*$")
]
"""Where a trace is looked at, with `{trace_id}` in it."""

_LIMIT = re.compile(r"(GET|POST|DELETE) +(/\S*) *= *([0-9]{1,9})")


def listed(given: Any) -> list[str]:
    return [item.strip() for item in given.split(",") if item.strip()]


def networks(given: Any) -> Any:
    return tuple(map(ip_network, listed(given))) if isinstance(given, str) else given


def origins(given: Any) -> Any:
    return tuple(listed(given)) if isinstance(given, str) else given


def storage(given: str | None) -> str | None:
    """`FILE_STORAGE`, checked."""
    return parse_storage(given) if given is not None else None


def endpoint_limits(given: Any) -> Any:
    """`POST /v1/infer=60, GET /v1/jobs=120` as a mapping."""
    if not isinstance(given, str):
        return given
    found = {}
    for item in listed(given):
        match = _LIMIT.fullmatch(item)
        if match is None:
            raise ValueError(f"{item!r} is not like 'POST /v1/infer=60'")
        found[f"{match[1]} {match[2]}"] = int(match[3])
    return found
