"""`truthgpt keys`: makes, lists, changes and revokes API keys in the server's Redis, not over HTTP.

Whoever may make keys must hold Redis' address and the server's secret, which no key grants.
"""

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import click
from redis import Redis
from rich import box
from rich.table import Table

from cli.changes import recorded
from cli.options import as_json_option
from cli.serving.server_redis import server_redis
from cli.terminal.durations import Duration, day
from cli.terminal.screen import echo_json, echo_list, harmless
from cli.terminal.sizes import Size
from shared.domain.audit import Action, Change
from shared.domain.errors import ConfigError
from shared.settings import Settings, key_secret, load_settings
from shared.store.api_key_tokens import Signer
from shared.store.api_keys import ApiKey, ApiKeys, Grant, Scope
from shared.store.described_keys import difference, document
from shared.store.keys import Keys

DEFAULT_SCOPES = (Scope.JOBS_READ, Scope.JOBS_WRITE)
RESETTABLE = ("rpm", "rph", "max-queued", "max-bytes", "expires", "note")


@click.group(short_help="Make, list, change and end API keys.")
def keys() -> None:
    """Make, list, change and end API keys (needs REDIS_URL, or the state directory of a running server)."""


@keys.command()
@click.option("--tenant", required=True, help="Whose jobs the key sees: letters, digits, _ and -.")
@click.option(
    "--scopes",
    default=",".join(DEFAULT_SCOPES),
    show_default=True,
    help=f"Comma-separated, of: {', '.join(Scope)}.",
)
@click.option("--rpm", type=click.IntRange(1), help="Requests a minute. Default: the server's.")
@click.option("--rph", type=click.IntRange(1), help="Requests an hour. Default: the server's.")
@click.option("--max-queued", type=click.IntRange(1), help="Jobs that may wait at once.")
@click.option("--max-bytes", type=Size(), help="What may be stored, such as 512MiB; 0: any amount.")
@click.option("--expires", type=Duration(), help="Ends by itself after e.g. 90d, 12h, 30m.")
@click.option("--note", default="", help="What the key is for, on one line.")
@as_json_option
def create(
    tenant: str,
    scopes: str,
    rpm: int | None,
    rph: int | None,
    max_queued: int | None,
    max_bytes: int | None,
    expires: float | None,
    note: str,
    as_json: bool,
) -> None:
    """Make a key and show its token, this once."""
    end = None if expires is None else time.time() + expires
    grant = Grant(tenant, _scopes(scopes), rpm, rph, max_queued, max_bytes, end, note)
    with _changing(Action.KEY_CREATE) as (store, change):
        change.of(note=f"{tenant}: {' '.join(sorted(grant.scopes))}")
        made, token = store.create(grant)
        change.of(made.id)
    _show_new(made, token, as_json)


@keys.command("list")
@as_json_option
def list_keys(as_json: bool) -> None:
    """List the keys, those that ended in the last 30 days too."""
    settings, now = load_settings(), time.time()
    found = _store(settings, server_redis(settings)).all()
    rows = [document(key, now) for key in found]
    nothing = "no keys but the server's own token"
    echo_list(rows, lambda: _table(found, now), nothing, as_json=as_json)


@keys.command()
@click.argument("key_id")
@click.option("--rpm", type=click.IntRange(1), help="Requests a minute.")
@click.option("--rph", type=click.IntRange(1), help="Requests an hour.")
@click.option("--max-queued", type=click.IntRange(1), help="Jobs that may wait at once.")
@click.option("--max-bytes", type=Size(), help="What may be stored, such as 512MiB; 0: any amount.")
@click.option("--expires", type=Duration(), help="Ends by itself, so long from now: 90d, 12h, 30m.")
@click.option("--note", help="What the key is for, on one line.")
@click.option(
    "--reset",
    multiple=True,
    type=click.Choice(RESETTABLE),
    help="Back to the server's own limit, no expiry, no note. May be repeated.",
)
@as_json_option
def update(key_id: str, reset: tuple[str, ...], as_json: bool, **given: Any) -> None:
    """Change a key's limits, expiry or note; within a second every server follows. Its token stays."""
    changes = {name: value for name, value in given.items() if value is not None}
    if "expires" in changes:
        changes["expires"] += time.time()
    names = {option.replace("-", "_") for option in reset}
    if both := names & changes.keys():
        raise click.UsageError(f"--{min(both).replace('_', '-')} is both given and reset")
    changes |= {name: "" if name == "note" else None for name in names}
    if not changes:
        raise click.UsageError("name what is to change, such as --rpm 300 or --reset expires")
    with _changing(Action.KEY_UPDATE, key_id) as (store, change):
        old, new = store.update(key_id, **changes)
        change.of(note=difference(old, new))
    if as_json:
        echo_json(document(new, time.time()))
    else:
        click.echo(f"{key_id} of {difference(old, new)}")


@keys.command()
@click.argument("key_ids", nargs=-1, required=True)
def revoke(key_ids: tuple[str, ...]) -> None:
    """End keys; within a second no server takes them."""
    for key_id in key_ids:
        with _changing(Action.KEY_REVOKE, key_id) as (store, _):
            store.revoke(key_id)
        click.echo(f"{key_id} is revoked")


@keys.command()
@click.argument("key_id")
@click.option(
    "--overlap",
    type=Duration(),
    default="0s",
    show_default=True,
    help="How long the old key still works, such as 1h.",
)
@as_json_option
def rotate(key_id: str, overlap: float, as_json: bool) -> None:
    """Make a new key with the same rights and end the old one."""
    with _changing(Action.KEY_ROTATE, key_id) as (store, change):
        made, token = store.rotate(key_id, overlap)
        change.of(made.id)
    _show_new(made, token, as_json)


def _store(settings: Settings, redis: Redis) -> ApiKeys:
    return ApiKeys(redis, Keys(settings.key_prefix), Signer(key_secret(settings)))


@contextmanager
def _changing(action: Action, *targets: str) -> Iterator[tuple[ApiKeys, Change]]:
    """The keys, while they are changed in this way."""
    settings = load_settings()
    redis = server_redis(settings)
    with recorded(redis, settings, action, *targets) as change:
        yield _store(settings, redis), change


def _scopes(given: str) -> frozenset[Scope]:
    names = {name.strip() for name in given.split(",") if name.strip()}
    unknown = names - set(Scope)
    if unknown:
        raise ConfigError(f"scopes: {', '.join(sorted(unknown))} is none of {', '.join(Scope)}")
    return frozenset(map(Scope, names))


def _show_new(key: ApiKey, token: str, as_json: bool) -> None:
    if as_json:
        echo_json({**document(key, time.time()), "token": token})
        return
    click.echo(token)
    click.echo(
        f"Key {key.id} of tenant {key.grant.tenant}. Keep the token now: it is not shown again.",
        err=True,
    )


def _table(found: Iterable[ApiKey], now: float) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("Key", no_wrap=True)
    for heading in (
        "Tenant",
        "Scopes",
        "State",
        "rpm",
        "rph",
        "Queued",
        "Bytes",
        "Expires",
        "Last used",
        "Note",
    ):
        table.add_column(heading)
    for key in found:
        grant = key.grant
        limits = (grant.rpm, grant.rph, grant.max_queued, grant.max_bytes)
        table.add_row(
            key.id,
            grant.tenant,
            " ".join(sorted(grant.scopes)),
            key.state(now),
            *("" if limit is None else str(limit) for limit in limits),
            day(grant.expires),
            day(key.used),
            harmless(grant.note),
        )
    return table
