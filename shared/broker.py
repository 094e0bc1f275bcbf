"""The Celery app: one queue a model for doorbells, one for rescue and deliveries. No job passes here.

A doorbell says "model M has work" and nothing more; it may be lost or doubled without harm.
"""

import logging
import re
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from shared import context
from shared.redis.address import RedisAddress
from shared.settings import Settings
from shared.surroundings import shed

if TYPE_CHECKING:
    from celery import Celery
    from kombu import Connection

DRAIN = "truthgpt.drain"
DELIVER = "truthgpt.deliver"
RESCUE_QUEUE = "truthgpt.rescue"
DELIVERY_QUEUE = "truthgpt.deliveries"
DOORBELL_SECONDS = 600
POOL_SECONDS = 1.0
UNTRACED = f"00-{1:032x}-{1:016x}-00"
"""A `traceparent` that asks for no trace (W3C Trace Context: its last flag is not set)."""

_log = logging.getLogger(__name__)


def queue_name(model: str) -> str:
    """The kombu queue of a model's doorbells."""
    return f"infer.{model}"


def celery_broker_url(url: str) -> str:
    """The broker's URL for kombu from that of Redis: one a Sentinel, `redis+socket` for a unix socket.

    What is not in it stands in `_transport_options` and, for an encrypted one, in `broker_use_ssl`.
    """
    address = RedisAddress.parse(url)
    secret = "" if address.password is None else f":{quote(address.password, safe='')}"
    login = f"{quote(address.username or '', safe='')}{secret}@" if address.login else ""
    if address.path:
        # As it stands, save for what would end a URL's path: Flower decodes nothing.
        path = re.sub(r"[%?#;\x00-\x20]", lambda found: quote(found[0]), address.path)
        return f"redis+socket://{login}{path}?virtual_host={address.db}"
    if address.sentinel:
        return ";".join(f"sentinel://{login}{_at(*node)}/{address.db}" for node in address.nodes)
    return f"{address.scheme}://{login}{_at(*address.nodes[0])}/{address.db}"


def _at(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _transport_options(settings: Settings, address: RedisAddress) -> dict[str, Any]:
    timeouts: dict[str, Any] = {
        "socket_timeout": max(5.0, settings.redis_timeout),
        "socket_connect_timeout": settings.redis_timeout,
    }
    options: dict[str, Any] = {
        **timeouts,
        "global_keyprefix": f"{settings.key_prefix}:broker:",
        "visibility_timeout": settings.broker_visibility,
        "socket_keepalive": True,
        "health_check_interval": 10,
        "retry_on_timeout": False,
        "max_retries": 0,
    }
    if "client_name" in address.options:
        options["client_name"] = address.options["client_name"]
    if address.sentinel:
        options["master_name"] = address.service
        options["sentinel_kwargs"] = {**timeouts, **address.to_sentinels}
    return options


def make_celery(settings: Settings) -> "Celery":
    """The Celery app with every timeout and bound set; see docs/decisions for each choice.

    Other programs' variables leave this process, however it was started: Celery asks for `CELERY_BROKER_URL`
    and its like at each use, before it looks at what stands here.
    """
    shed()
    # Here and not above: who wants a queue's name alone does not load Celery.
    from celery import Celery
    from kombu import Queue

    url = settings.require_redis()
    address = RedisAddress.parse(url)
    app = Celery("truthgpt", broker=celery_broker_url(url), set_as_current=False)
    if address.tls is not None:
        # Without it kombu checks no certificate.
        app.conf.broker_use_ssl = dict(address.tls)
    app.conf.update(
        broker_transport_options=_transport_options(settings, address),
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        broker_channel_error_retry=True,
        broker_connection_timeout=settings.redis_timeout,
        broker_pool_limit=10,
        accept_content=["json"],
        task_serializer="json",
        task_ignore_result=True,
        task_acks_late=True,
        task_create_missing_queues=True,
        worker_prefetch_multiplier=1,
        worker_disable_rate_limits=True,
        worker_send_task_events=True,
        worker_hijack_root_logger=False,
        worker_redirect_stdouts=False,
        worker_cancel_long_running_tasks_on_connection_loss=False,
        worker_enable_remote_control=True,
        task_queues=[Queue(queue_name(spec.name)) for spec in settings.catalog]
        + [Queue(RESCUE_QUEUE), Queue(DELIVERY_QUEUE)],
        task_default_queue=RESCUE_QUEUE,
    )
    return app


def ring_deliveries(app: "Celery") -> bool:
    """Push a doorbell for webhooks that are due. False when the broker does not take it."""
    try:
        app.send_task(DELIVER, queue=DELIVERY_QUEUE, expires=DOORBELL_SECONDS, retry=False)
    except Exception as error:  # noqa: BLE001 - the next look rings again
        _log.warning("doorbell for deliveries failed (%s); it will be rung again", error)
        return False
    return True


def ring(app: "Celery", model: str) -> bool:
    """Push a doorbell for a model. False when the broker does not take it; the rescuer rings later."""
    return _ring(app, model, _trace_headers())


def ring_unless_rung(app: "Celery", model: str) -> bool:
    """Push a doorbell for a model where none waits in its queue, in no trace. False where that fails."""
    try:
        with app.pool.acquire(block=True, timeout=POOL_SECONDS) as connection:
            if messages_in(connection, queue_name(model)):
                return True
    except Exception as error:  # noqa: BLE001 - the next beat looks again
        _log.info("the doorbells of %s cannot be looked at (%s)", model, error)
        return False
    return _ring(app, model, {context.TRACEPARENT: UNTRACED})


def messages_in(connection: "Connection", queue: str) -> int:
    """How many messages wait in a queue. Raises what Redis and kombu raise.

    By the client of kombu's channel: asked by `queue_declare`, kombu 5.7 leaves out its own key prefix.
    """
    return int(connection.default_channel.client.llen(queue))


def _ring(app: "Celery", model: str, headers: dict[str, str] | None) -> bool:
    try:
        app.send_task(
            DRAIN,
            args=(model,),
            queue=queue_name(model),
            expires=DOORBELL_SECONDS,
            retry=False,
            headers=headers,
        )
    except Exception as error:  # noqa: BLE001 - any fault here costs latency, never a job
        _log.warning("doorbell for %s failed (%s); the rescuer will ring", model, error)
        return False
    return True


def _trace_headers() -> dict[str, str] | None:
    traceparent = context.traceparent()
    return {context.TRACEPARENT: traceparent} if traceparent else None
