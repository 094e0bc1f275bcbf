"""`truthgpt webhooks secrets`: manages the secrets with which a tenant's webhooks are signed.

Kept in the server's Redis itself, as API keys are: it needs Redis' address and the server's secret.
"""

import math
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import click
from redis import Redis
from rich import box
from rich.table import Table

from cli.changes import recorded
from cli.options import as_json_option
from cli.serving.server_redis import server_redis
from cli.terminal.durations import Duration, day
from cli.terminal.screen import echo_json, echo_list
from shared.domain.audit import Action, Change
from shared.domain.schemas import timestamp
from shared.settings import Settings, key_secret, load_settings
from shared.store.keys import Keys
from shared.webhooks.secrets import WebhookSecret, WebhookSecrets

tenant_option = click.option("--tenant", required=True, help="Whose webhooks.")


@click.group()
def secrets() -> None:
    """Signing secrets of tenants (needs REDIS_URL, or the state directory of a running server)."""


@secrets.command()
@tenant_option
@click.option(
    "--overlap",
    type=Duration(),
    default="24h",
    show_default=True,
    help="How long the tenant's other secrets sign beside it, such as 24h.",
)
@as_json_option
def rotate(tenant: str, overlap: float, as_json: bool) -> None:
    """Make a secret, the tenant's first or its next, and show it, this once."""
    with _changing(Action.SECRET_ROTATE, tenant) as (store, change):
        made, text = store.rotate(tenant, overlap)
        change.of(made.id)
    if as_json:
        echo_json({**_document(made, time.time()), "secret": text})
        return
    click.echo(text)
    click.echo(f"Secret {made.id} of {tenant}. Keep it now: it is not shown again.", err=True)


@secrets.command("list")
@tenant_option
@as_json_option
def list_secrets(tenant: str, as_json: bool) -> None:
    """List a tenant's secrets by their ids, those that ended lately too."""
    settings, now = load_settings(), time.time()
    found = _store(settings, server_redis(settings)).all(tenant)
    rows = [_document(known, now) for known in found]
    nothing = f"{tenant} has none of its own; WEBHOOK_HMAC_SECRET signs its webhooks"
    echo_list(rows, lambda: _table(found, now), nothing, as_json=as_json)


@secrets.command()
@tenant_option
@click.argument("secret_ids", metavar="ID...", nargs=-1, required=True)
def revoke(tenant: str, secret_ids: tuple[str, ...]) -> None:
    """End secrets now."""
    for secret_id in secret_ids:
        with _changing(Action.SECRET_REVOKE, tenant, secret_id) as (store, _):
            store.revoke(tenant, secret_id)
        click.echo(f"{secret_id} is revoked")


@contextmanager
def _changing(
    action: Action, tenant: str, *targets: str
) -> Iterator[tuple[WebhookSecrets, Change]]:
    """The secrets, while those of a tenant are changed in this way."""
    settings = load_settings()
    redis = server_redis(settings)
    with recorded(redis, settings, action, *targets, note=tenant) as change:
        yield _store(settings, redis), change


def _store(settings: Settings, redis: Redis) -> WebhookSecrets:
    return WebhookSecrets(
        redis,
        Keys(settings.key_prefix),
        partial(key_secret, settings),
        settings.keyring,
    )


def _state(known: WebhookSecret, now: float) -> str:
    return "active" if known.active(now) else "ended"


def _end(known: WebhookSecret) -> float | None:
    return None if math.isinf(known.ends) else known.ends


def _table(found: Iterable[WebhookSecret], now: float) -> Table:
    table = Table("Secret", "State", "Made", "Ends", box=box.SIMPLE_HEAD, pad_edge=False)
    for known in found:
        table.add_row(known.id, _state(known, now), day(known.created), day(_end(known)))
    return table


def _document(known: WebhookSecret, now: float) -> dict[str, Any]:
    return {
        "id": known.id,
        "state": _state(known, now),
        "created_at": timestamp(known.created),
        "ends_at": timestamp(_end(known)),
    }
