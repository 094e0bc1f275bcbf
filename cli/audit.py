"""`truthgpt audit`: lists the changes that administrators made, and who signed in at the console."""

from collections.abc import Iterable, Mapping
from typing import Any

import click
from rich import box
from rich.table import Table

from cli.login import Login, pass_login
from cli.options import as_json_option, limit_option
from cli.terminal.durations import Moment
from cli.terminal.screen import echo_list, harmless


@click.command(short_help="List what administrators changed, and who signed in.")
@click.option("--action", help="Only changes of this kind, such as key.revoke.")
@click.option("--by", help="Only changes with this key, or by this account of the command line.")
@click.option("--target", help="Only changes of what has this id.")
@click.option("--tenant", help="Only changes by administrators of this tenant.")
@click.option(
    "--since", type=Moment(), help="Only from a time on: 2026-11-30T16:00 (UTC), or 2h ago."
)
@click.option("--until", type=Moment(), help="Only before a time, given in the same ways.")
@limit_option
@as_json_option
@pass_login
def audit(
    login: Login,
    action: str | None,
    by: str | None,
    target: str | None,
    tenant: str | None,
    since: str | None,
    until: str | None,
    limit: int,
    as_json: bool,
) -> None:
    """List what administrators changed and who signed in, newest first (takes a key with the scope admin)."""
    filters = {"action": action, "by": by, "target": target, "tenant": tenant}
    with login.client() as client:
        rows = client.audit(**filters, since=since, until=until, limit=limit)
    echo_list(rows, lambda: _table(rows), "no changes", as_json=as_json)


def _table(rows: Iterable[Mapping[str, Any]]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in ("When (UTC)", "What", "Of", "Outcome", "By", "Via", "From"):
        table.add_column(name, overflow="fold")
    for row in rows:
        by = row["user"] or row["key_id"]
        table.add_row(
            row["at"][:19].replace("T", " "),
            row["action"],
            harmless(" ".join([*row["targets"], row["note"]]).strip()),
            row["outcome"],
            harmless(by if row["tenant"] == "default" else f"{by} ({row['tenant']})"),
            row["via"],
            harmless(row["address"]),
        )
    return table
