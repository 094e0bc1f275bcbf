"""`truthgpt usage`: shows each tenant's usage, read from the store itself."""

from collections.abc import Iterable
from dataclasses import asdict

import click
from redis.exceptions import RedisError
from rich import box
from rich.table import Table

from cli.options import as_json_option
from cli.serving.server_redis import server_redis
from cli.terminal.screen import console, echo_json, harmless
from shared.settings import load_settings
from shared.store.jobs import JobStore
from shared.store.lua_constants import USAGE_DAYS
from shared.store.usage import DailyUsage, read_stored, read_usage


@click.command(short_help="Show tokens and time used, by day, tenant and model.")
@click.option("--tenant", help="One tenant alone. Default: all.")
@click.option(
    "--days",
    type=click.IntRange(1, USAGE_DAYS),
    default=7,
    show_default=True,
    help="How many, up to today (UTC).",
)
@as_json_option
def usage(tenant: str | None, days: int, as_json: bool) -> None:
    """Show tokens and time used, by day, tenant and model, and what tenants have stored now.

    Needs REDIS_URL or a local server.
    """
    settings = load_settings()
    try:
        with server_redis(settings) as redis:
            store = JobStore(redis, settings.key_prefix)
            found, stored = read_usage(store, days, tenant), read_stored(store, tenant)
    except RedisError as error:
        raise click.ClickException(f"Redis does not answer: {error}") from error
    if as_json:
        rows = [{**asdict(row), "day": row.day.isoformat()} for row in found]
        echo_json({"data": rows, "stored_bytes": stored})
        return
    if found:
        console().print(_table(found))
    else:
        click.echo("no jobs have ended in these days")
    for name, held in stored.items():
        click.echo(f"{harmless(name)} has {held:,} bytes stored")


def _table(rows: Iterable[DailyUsage]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in ("day", "tenant", "model"):
        table.add_column(name)
    for name in ("jobs", "failed", "prompt", "completion", "cached", "run s", "device s"):
        table.add_column(name, justify="right")
    for row in rows:
        table.add_row(
            row.day.isoformat(),
            harmless(row.tenant),
            row.model,
            str(sum(row.jobs.values())),
            str(row.jobs.get("failed", 0)),
            *(str(n) for n in (row.prompt_tokens, row.completion_tokens, row.cached_tokens)),
            f"{row.run_seconds:.1f}",
            f"{row.device_seconds:.1f}",
        )
    return table
