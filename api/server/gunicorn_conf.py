"""gunicorn's settings: `gunicorn -c api/server/gunicorn_conf.py api.wsgi:app`.

HOST (127.0.0.1), PORT and WEB_CONCURRENCY (1) come from the environment. One process holds thousands of
streams; its greenlets wait on Redis and on clients. The app is imported by the workers alone, after
gevent has patched the standard library, so nothing here may import it.
"""

import gc
import math
import os
import sys
from typing import Any

from shared.descriptors import allow
from shared.domain.errors import ConfigError
from shared.settings import load_settings, require_token_beyond_loopback
from shared.surroundings import shed

MOST_CONNECTIONS = 8192
OTHER_FILES = 1280
"""Files and sockets of a process beside its clients': two pools of connections to Redis, and more."""
GARBAGE_OBJECTS = 10_000
"""More objects than were there at the last collection of garbage bring the next one."""

if os.environ.get("GUNICORN_CMD_ARGS"):
    # gunicorn has read it already, and puts it over all that stands here, the address included.
    sys.exit(
        "truthgpt: GUNICORN_CMD_ARGS: goes over the server's own settings; unset it, give options on "
        "gunicorn's command line, or start the API with `truthgpt api`, which does not heed it"
    )
shed("api")
_host = os.environ.get("HOST") or "127.0.0.1"
try:
    _settings = load_settings()
    require_token_beyond_loopback(_settings, _host)
except ConfigError as _error:
    sys.exit(f"truthgpt: {_error}")

wsgi_app = "api.wsgi:app"
bind = f"{_host}:{_settings.port}"
workers = int(os.environ.get("WEB_CONCURRENCY") or 1)
worker_class = "api.server.worker.Worker"
worker_connections = max(
    1, min(MOST_CONNECTIONS, allow(MOST_CONNECTIONS + OTHER_FILES) - OTHER_FILES)
)
backlog = 2048
preload_app = False
reuse_port = False
# A worker that does not tick for so long is stuck; requests themselves may last as long as they like.
timeout = 60
graceful_timeout = max(1, int(_settings.drain_time))
# How long a connection may idle between two requests (`api.server.worker` bounds how long a head may
# take). gunicorn has whole seconds.
keepalive = math.ceil(_settings.keepalive)
limit_request_line = 4094
limit_request_fields = 100
limit_request_field_size = 8190
logger_class = "api.server.access_log.Logger"
loglevel = _settings.log_level.lower()
proc_name = "truthgpt-api"
# Nothing in a request may change what the server takes its own address or paths for: there is no header by
# which a proxy could. So it does not matter who sends one, and gunicorn need not look at each client's
# address.
secure_scheme_headers: dict[str, str] = {}
forwarder_headers = ""
forwarded_allow_ips = "*"
control_socket_disable = True


def on_starting(server: Any) -> None:
    """Before anything listens: gunicorn's command line may name another address than HOST, or a protocol
    that the worker does not speak.
    """
    cfg = server.cfg
    if cfg.protocol != "http" or cfg.http_protocols != ["h1"] or cfg.http2_cleartext != "off":
        sys.exit(
            "truthgpt: this server speaks HTTP/1 alone; leave out --protocol, --http-protocols and "
            "--http2-cleartext, and put a proxy before it for clients that speak others"
        )
    try:
        for address in cfg.address:
            if isinstance(address, tuple):
                require_token_beyond_loopback(_settings, address[0])
        _settings.require_redis()
    except ConfigError as error:
        sys.exit(f"truthgpt: {error}")


def post_worker_init(worker: Any) -> None:
    """Tell the app how many requests may be open, and when this process drains: held answers and streams
    then end by themselves.
    """
    from api.services import of

    here = of(worker.wsgi)
    here.slots.most = worker.cfg.worker_connections
    here.lifecycle.alive = lambda: bool(worker.alive)
    # What requests make is gone with them; a collection at every 700 objects finds those that are still open.
    gc.freeze()
    gc.set_threshold(GARBAGE_OBJECTS, 10, 10)


def worker_exit(server: Any, worker: Any) -> None:  # noqa: ARG001 - gunicorn's signature
    """Stop the threads of a worker that has served its last request."""
    if worker.wsgi is not None:
        from api.services import of

        of(worker.wsgi).close()
