"""The Flask app: services, routes, errors, and what every answer carries."""

from functools import partial

from flask import Flask, Response, g

from api import errors
from api.bell import Bell, Ring
from api.dead_letters import dead_letters
from api.docs import docs
from api.health import health
from api.infer import infer
from api.jobs import jobs
from api.metrics import metrics
from api.models import models
from api.openapi import TABLE, openapi
from api.readers import Readers
from api.requests import request_id
from api.services import EXTENSION, Services
from api.streams import streams
from api.tickets import Tickets
from shared import broker
from shared.events import EventHub
from shared.jobs import JobStore, connect
from shared.settings import Settings, ensure_token

GROUPS = (jobs, streams, infer, dead_letters, models, health, metrics, openapi, docs)


def create_app(
    settings: Settings,
    *,
    store: JobStore | None = None,
    hub: EventHub | None = None,
    ring: Ring | None = None,
) -> Flask:
    """The API for these settings. Nothing is connected and no thread runs before the first request.

    `store`, `hub` and `ring` (pushes a doorbell for a model) default to those of the settings' Redis.
    Raises `ConfigError`.
    """
    app = Flask("api", static_folder=None)
    app.url_map.merge_slashes = False
    app.extensions[EXTENSION] = _services(settings, store, hub, ring)
    errors.register(app)
    app.before_request(_begin)
    app.after_request(_end)
    for group in GROUPS:
        app.register_blueprint(group)
    app.extensions[TABLE] = tuple(operation for group in GROUPS for operation in group.table)
    return app


def _services(
    settings: Settings, store: JobStore | None, hub: EventHub | None, ring: Ring | None
) -> Services:
    if store is None:
        redis = connect(settings.require_redis(), settings.redis_timeout)
        store = JobStore(
            redis, settings.key_prefix, retention=settings.job_retention, lease=settings.lease
        )
    if ring is None:
        ring = partial(broker.ring, broker.make_celery(settings))
    token, _ = ensure_token(settings)
    return Services(
        settings=settings,
        catalog=settings.catalog,
        token=token,
        store=store,
        hub=hub or EventHub(store.redis, store.keys),
        bell=Bell(ring),
        readers=Readers(store, settings.stream_grace),
        tickets=Tickets(token),
    )


def _begin() -> None:
    g.request_id = request_id()


def _end(response: Response) -> Response:
    headers = response.headers
    headers["X-Request-ID"] = g.request_id
    headers["X-Content-Type-Options"] = "nosniff"
    # The URLs of events carry tickets; they must not travel on as referrers, nor stay in caches.
    headers["Referrer-Policy"] = "no-referrer"
    headers.setdefault("Cache-Control", "no-store")
    return response
