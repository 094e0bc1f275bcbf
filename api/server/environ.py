"""A request's head in WSGI's words (PEP 3333), as gunicorn says it."""

import os
from typing import Any

from gunicorn import util
from gunicorn.http import wsgi

PREFIXED = "SCRIPT_NAME" in os.environ
"""All paths lie under one that gunicorn takes off."""
_base: dict[str, Any] = {}


def environment(request: Any, cfg: Any) -> dict[str, Any]:
    """What follows from the head of gunicorn's `request` alone; not where `PREFIXED`."""
    if not _base:
        _base.update(wsgi.base_environ(cfg), SCRIPT_NAME="")
    major, minor = request.version
    environ = {
        **_base,
        "wsgi.url_scheme": request.scheme,
        "REQUEST_METHOD": request.method,
        "QUERY_STRING": request.query,
        "RAW_URI": request.uri,
        "PATH_INFO": util.unquote_to_wsgi_str(request.path),
        "SERVER_PROTOCOL": f"HTTP/{major}.{minor}",
    }
    for name, value in request.headers:
        if name == "CONTENT-TYPE":
            environ["CONTENT_TYPE"] = value
        elif name == "CONTENT-LENGTH":
            environ["CONTENT_LENGTH"] = value
        else:
            key = f"HTTP_{name.replace('-', '_')}"
            environ[key] = f"{environ[key]},{value}" if key in environ else value
    return environ
