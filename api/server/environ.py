"""The WSGI environment of a request, as `gunicorn.http.wsgi.create` makes it for a request over HTTP/1.

That one makes all of it anew each time; here what a connection's requests have in common is made with the
connection. What no part of this server reads is left out: early hints, proxy protocols, `SCRIPT_NAME`.
"""

import sys
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from gunicorn.util import unquote_to_wsgi_str
from gunicorn.workers.ggevent import VERSION


def of_connection(sock: Any, client: Any, server: Any, *, multiprocess: bool) -> dict[str, Any]:
    """What all requests on a connection have in common.

    `client` and `server` are addresses as `socket` has them: host and port, or the path of a Unix socket,
    which has no name that a URL could be made of.
    """
    host, port = server[:2] if isinstance(server, tuple) else ("localhost", 80)
    environ = {
        "wsgi.errors": sys.stderr,
        "wsgi.version": (1, 0),
        "wsgi.multithread": True,
        "wsgi.multiprocess": multiprocess,
        "wsgi.run_once": False,
        "wsgi.input_terminated": True,
        "gunicorn.socket": sock,
        "SERVER_SOFTWARE": VERSION,
        "SERVER_NAME": host,
        "SERVER_PORT": str(port),
        "SCRIPT_NAME": "",
    }
    if isinstance(client, tuple):
        return {**environ, "REMOTE_ADDR": client[0], "REMOTE_PORT": str(client[1])}
    return {**environ, "REMOTE_ADDR": str(client)}


def of_request(common: Mapping[str, Any], request: Any) -> dict[str, Any]:
    """What a request has in common with others and to itself; `request` is gunicorn's."""
    major, minor = request.version
    path = request.path
    environ = {
        **common,
        "wsgi.input": request.body,
        "wsgi.url_scheme": request.scheme,
        "REQUEST_METHOD": request.method,
        "QUERY_STRING": request.query,
        "RAW_URI": request.uri,
        "SERVER_PROTOCOL": f"HTTP/{major}.{minor}",
        "PATH_INFO": unquote_to_wsgi_str(path) if "%" in path else path,
    }
    for name, value in request.headers:
        key = _key(name)
        environ[key] = f"{environ[key]},{value}" if key in environ else value
    return environ


@lru_cache(maxsize=256)
def _key(name: str) -> str:
    """Under which name a header stands, whose own comes in capitals."""
    if name in ("CONTENT-TYPE", "CONTENT-LENGTH"):
        return name.replace("-", "_")
    return "HTTP_" + name.replace("-", "_")
