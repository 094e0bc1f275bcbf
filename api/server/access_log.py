"""gunicorn's own lines in the form of all others, and one line for every request answered."""

import logging
from datetime import timedelta
from typing import Any

from gunicorn import glogging

from shared import context
from shared.settings import load_settings
from shared.telemetry import logs

_access = logging.getLogger("truthgpt.access")


class Logger(glogging.Logger):  # type: ignore[misc]
    """Hands everything to the process's handler."""

    def setup(self, cfg: Any) -> None:
        """Called when the server starts, and by each of its workers again."""
        self.cfg = cfg
        self._access_log_enabled = True
        logs.configure(load_settings(), "api")
        self.error_log.handlers.clear()
        self.error_log.propagate = True

    def access(self, resp: Any, req: Any, environ: Any, request_time: timedelta) -> None:  # noqa: ARG002
        """A request has been answered to its last byte, or its client has gone.

        The path is that of the route: in a raw one, and in its query, there may be tickets. What probes
        and scrapers ask for has no route here and is worth a line at DEBUG alone.
        """
        level = logging.INFO if "route" in context.bound() else logging.DEBUG
        if not _access.isEnabledFor(level):
            return
        said = {
            "method": environ["REQUEST_METHOD"],
            "status": int(str(resp.status)[:3]),
            "duration_ms": round(request_time.total_seconds() * 1000, 2),
            "bytes": resp.sent,
        }
        logs.say(_access, level, "request", said)
