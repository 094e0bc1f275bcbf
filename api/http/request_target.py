"""A path has one spelling, so that no rule about paths is passed by.

Limits, fast ways and proxies' rules look at a path as it was sent, the router at what it means. They are the
same for a path that begins with `/` and holds no percent-encoding: none of this server's names has need of
one.
"""

import re
from wsgiref.types import WSGIEnvironment

from shared.domain.errors import JobsError

_LABEL = "[A-Za-z0-9_~-]{1,63}"
# Labels that are empty or longer have no form in IDNA, and the router fails on them.
_HOST = re.compile(rf"(\[[0-9A-Fa-f:.]+\]|{_LABEL}(\.{_LABEL})*\.?)?(:[0-9]*)?")


def fault_of(environ: WSGIEnvironment) -> str | None:
    """Why a request is refused by its target or its `Host`; None for one that is as it should be."""
    target: str = environ.get("RAW_URI", "/")
    path = target.partition("?")[0]
    if not target.startswith("/"):
        return "Send the path alone, such as /v1/jobs, and the host in the Host header."
    if "%" in path or "#" in target:
        return "Send the path as it is documented: no path here has percent-encoded characters or a fragment."
    host: str | None = environ.get("HTTP_HOST")
    if host is None:
        # RFC 9112, 3.2: for HTTP/1.0 there need not be one.
        modern = environ["SERVER_PROTOCOL"] == "HTTP/1.1"
        return "Send a Host header: HTTP/1.1 asks for one." if modern else None
    if _HOST.fullmatch(host) is None:
        return "Send one Host header, with a host name and, if need be, a port."
    return None


def require_plain(environ: WSGIEnvironment) -> None:
    """Raises `JobsError` for a request that `fault_of` finds one in."""
    if (fault := fault_of(environ)) is not None:
        raise JobsError(fault, code="bad_request")
