"""The Flask app: services, routes, errors, and what every answer carries."""

from collections.abc import Callable
from functools import partial
from typing import Any
from wsgiref.types import StartResponse, WSGIEnvironment

import flask
from flask import Flask, Request, Response
from werkzeug.exceptions import NotFound

from api.console.install import NAME as CONSOLE
from api.console.install import console
from api.console.pages.docs import docs
from api.http import errors, observation, request_context
from api.http.fast_path import BUSY, FastPath, Route
from api.http.operations import TABLE
from api.http.protection import protect, share
from api.http.reply import in_flask
from api.http.request_target import require_plain
from api.http.url_rule import UrlRule
from api.openai.batches import batches
from api.openai.files import files
from api.openai.responses.routes import responses
from api.openai.routes import openai
from api.openai.webhook_endpoints import webhook_endpoints
from api.openapi.document import openapi
from api.replicate.model_routes import replicate_models
from api.replicate.routes import replicate
from api.routes.audit import audit
from api.routes.dead_letters import dead_letters
from api.routes.deliveries import deliveries
from api.routes.health import health
from api.routes.infer import infer
from api.routes.jobs import jobs
from api.routes.keys import keys
from api.routes.metrics import metrics
from api.routes.models import models
from api.routes.problems import problems
from api.routes.stats import stats
from api.routes.streams import streams
from api.routes.webhooks import webhooks
from api.services import EXTENSION, Services
from api.state.cache import Cache
from api.state.file_storage import LoopStorage
from api.state.history import History
from api.state.key_cache import KeyCache
from api.state.limit_plan import Limits, Plan
from api.state.notifier import Notifier, Ring
from api.state.prometheus import Prometheus
from api.state.prompt_bounds import KnownBounds
from api.state.readers import Readers
from api.state.sampling_defaults import SamplingDefaults
from api.tickets import Tickets
from shared import broker
from shared.domain.errors import ConfigError, JobsError
from shared.domain.schemas import MAX_EXPIRES_IN
from shared.files import open_storage
from shared.hooks import Observers
from shared.redis.connection import connect
from shared.settings import Settings, ensure_token, key_secret
from shared.store.api_key_tokens import Signer
from shared.store.api_keys import ApiKeys
from shared.store.audit import AuditLog
from shared.store.batches import Batches
from shared.store.events import EventHub
from shared.store.files import Files
from shared.store.jobs import JobStore
from shared.store.rate_limits import TIMEOUT, RateLimiter
from shared.webhooks.endpoints import Endpoints
from shared.webhooks.outbox import Outbox
from shared.webhooks.policy import Allowed, UrlPolicy
from shared.webhooks.secrets import WebhookSecrets

_flask_request: Any = flask.request

GROUPS = (
    *(jobs, streams, infer, openai, responses, files, batches, webhook_endpoints),
    *(replicate, replicate_models),
    *(dead_letters, deliveries, webhooks),
    *(models, stats, keys, audit, health, metrics, problems, openapi, docs),
)


class App(Flask):
    """Flask, with a short way to the busiest routes."""

    fast_path: FastPath
    url_rule_class = UrlRule

    def ensure_sync(self, func: Callable[..., Any]) -> Callable[..., Any]:
        """The function itself: Flask asks of each, at every request, whether it is a coroutine."""
        return func

    def wsgi_app(self, environ: WSGIEnvironment, start_response: StartResponse) -> Any:
        """Answer one request: by the short way of the busy routes where it fits, else by Flask."""
        answered = self.fast_path.serve(environ, start_response)
        return super().wsgi_app(environ, start_response) if answered is None else answered


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
    app = App("api", static_folder=None)
    app.url_map.merge_slashes = False
    here = app.extensions[EXTENSION] = _services(settings, store, hub, ring)
    errors.register(app)
    for group in GROUPS:
        app.register_blueprint(group)
    app.register_blueprint(console)
    table = app.extensions[TABLE] = tuple(
        operation for group in GROUPS for operation in group.table
    )
    _check_endpoints(settings, {operation.endpoint for operation in table})
    _watch_over(app, here)
    share(app, settings.cors_origins)
    views = {endpoint: view for group in GROUPS for endpoint, view in group.views.items()}
    app.fast_path = FastPath(
        {
            (operation.method, operation.path): Route(operation, views[operation.endpoint])
            for operation in table
            if operation.endpoint in BUSY
        },
        here,
    )
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
    observers = Observers()
    limiter = RateLimiter(
        connect(settings.require_redis(), min(TIMEOUT, settings.redis_timeout)),
        store.keys,
        observers,
    )
    signer = Signer(key_secret(settings))
    return Services(
        settings=settings,
        catalog=settings.catalog,
        token=token,
        keys=KeyCache(ApiKeys(store.redis, store.keys, signer), signer),
        store=store,
        hub=hub or EventHub(store.redis, store.keys),
        notifier=Notifier(ring),
        readers=Readers(store, settings.stream_grace),
        outbox=Outbox(store),
        webhook_urls=UrlPolicy(Allowed.parse(settings.webhook_allow)),
        webhook_secrets=WebhookSecrets(
            store.redis, store.keys, partial(key_secret, settings), settings.keyring
        ),
        webhook_endpoints=Endpoints(store.redis, store.keys, partial(key_secret, settings)),
        tickets=Tickets(token, MAX_EXPIRES_IN + settings.job_retention),
        limits=Limits(Plan.of(settings), limiter, settings.trusted_proxies),
        cache=Cache(settings),
        prompt_bounds=KnownBounds(store),
        sampling_defaults=SamplingDefaults(store),
        history=History(store, [spec.name for spec in settings.catalog]),
        prometheus=Prometheus(settings.prometheus_url) if settings.prometheus_url else None,
        files=Files(store),
        batches=Batches(store, settings.batch_retention),
        storage=LoopStorage(open_storage(settings.file_storage, settings.state_dir)),
        audit=AuditLog(store),
        observers=observers,
    )


def _check_endpoints(settings: Settings, known: set[str]) -> None:
    for endpoint in settings.rate_endpoints:
        if endpoint not in known:
            raise ConfigError(
                f"RATE_LIMIT_ENDPOINTS: no endpoint {endpoint!r}; /openapi.json lists them"
            )


def _watch_over(app: Flask, services: Services) -> None:
    """Let Flask do at each request's begin and end what the fast path does."""
    operations = {
        (op.method, op.path.replace("{", "<").replace("}", ">")): op for op in app.extensions[TABLE]
    }

    def before() -> Response | None:
        asked: Request = _flask_request._get_current_object()
        rule = asked.url_rule
        method = "GET" if asked.method == "HEAD" else asked.method
        operation = operations.get((method, rule.rule if rule is not None else ""))
        if asked.blueprint == CONSOLE:
            # The pages of people are no client's requests: no metric counts them.
            here = request_context.begin(services, asked.environ, asked)
        else:
            here = observation.begin(services, operation, asked.environ, asked)
        asked.environ[request_context.KEY] = here
        try:
            require_plain(asked.environ)
        except JobsError as error:
            if operation is None or operation.dialect is None:
                raise
            # The path is that of a dialect's route, so its refusal is told in its words.
            return in_flask(operation.dialect.translate(errors.to_problem(here, error)))
        if asked.environ["PATH_INFO"].startswith("//"):
            # The router would take them for one; a proxy's rules about paths would not.
            raise NotFound
        return None

    def after(response: Response) -> Response:
        here = request_context.of(_flask_request.environ)
        observation.end(here, response)
        protect(response, here.request_id)
        return response

    app.before_request(before)
    app.after_request(after)
