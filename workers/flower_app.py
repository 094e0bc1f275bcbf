"""`python -m workers.flower_app ARGUMENTS`: `celery ARGUMENTS`, with a Flower that is closed altogether.

Flower's own `/metrics` asks nobody for a password and names workers and tasks. `/healthcheck` stays open: it
says OK, and a probe has no password.
"""

from celery.__main__ import main
from flower.views.monitor import Metrics
from tornado.web import authenticated


def close() -> None:
    """Put Flower's metrics behind its password."""
    Metrics.get = authenticated(Metrics.get)


if __name__ == "__main__":
    close()
    main()
