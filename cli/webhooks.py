"""`truthgpt webhooks`: lists webhook deliveries and replays them."""

import click

from cli.login import Login, pass_login
from cli.options import as_json_option, limit_option
from cli.terminal.screen import deliveries_table, echo_json, echo_list
from cli.webhook_secrets import secrets


@click.group(short_help="List webhook deliveries; replay them; their secrets.")
def webhooks() -> None:
    """Webhook deliveries (list, replay) and what they are signed with (secrets)."""


webhooks.add_command(secrets)


@webhooks.command("list")
@click.argument("job_id", metavar="[ID]", required=False)
@limit_option
@as_json_option
@pass_login
def list_deliveries(login: Login, job_id: str | None, limit: int, as_json: bool) -> None:
    """List the deliveries of the job ID; without one those that were given up, newest first."""
    with login.client() as client:
        found = client.deliveries(job_id) if job_id else client.dead_deliveries(limit=limit)
    rows = [delivery.raw for delivery in found]
    nothing = "no deliveries" if job_id else "no dead deliveries"
    echo_list(rows, lambda: deliveries_table(found), nothing, as_json=as_json)


@webhooks.command()
@click.argument("job_ids", metavar="ID...", nargs=-1, required=True)
@as_json_option
@pass_login
def replay(login: Login, job_ids: tuple[str, ...], as_json: bool) -> None:
    """Deliver the webhooks of jobs again."""
    with login.client() as client:
        for job_id in job_ids:
            again = client.replay(job_id)
            if as_json:
                echo_json({"data": [delivery.raw for delivery in again]})
            else:
                click.echo(f"{job_id}: {len(again)} to deliver")
