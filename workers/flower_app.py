"""`python -m workers.flower_app ARGUMENTS`: `celery ARGUMENTS`, with a Flower that is closed altogether.

Flower's own `/metrics` asks nobody for a password and names workers and tasks. `/healthcheck` stays open: it
says OK, and a probe has no password. No page may stand in a frame of another one, whose visitors would press
buttons that they do not see.
"""

from celery.__main__ import main
from flower.views.monitor import Metrics
from tornado.web import RequestHandler, authenticated

PROTECTION = {
    "Content-Security-Policy": "frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
}
_clear = RequestHandler.clear


def close() -> None:
    """Put Flower's metrics behind its password, and all of its pages out of frames."""
    Metrics.get = authenticated(Metrics.get)
    RequestHandler.clear = _cleared  # type: ignore[assignment, method-assign]


def _cleared(handler: RequestHandler) -> None:
    """Begin an answer. Pages, files, refusals and errors all do; Flower's own handlers override the rest."""
    _clear(handler)
    for name, value in PROTECTION.items():
        handler.set_header(name, value)


if __name__ == "__main__":
    close()
    main()
