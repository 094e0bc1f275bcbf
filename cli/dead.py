"""`truthgpt dead`: lists dead-lettered jobs and tries them again."""

import click

from cli.login import Login, pass_login
from cli.options import as_json_option, limit_option
from cli.terminal.screen import console, echo_json, echo_list, job_lines, jobs_table


@click.group()
def dead() -> None:
    """Dead letters: list, show, retry."""


@dead.command("list")
@limit_option
@as_json_option
@pass_login
def list_dead(login: Login, limit: int, as_json: bool) -> None:
    """List dead letters, newest first."""
    with login.client() as client:
        found = client.dead(limit=limit)
    rows = [job.raw for job in found]
    echo_list(rows, lambda: jobs_table(found), "no dead letters", as_json=as_json)


@dead.command()
@click.argument("job_id")
@as_json_option
@pass_login
def show(login: Login, job_id: str, as_json: bool) -> None:
    """Show a dead letter: what it was and why it failed."""
    with login.client() as client:
        job = client.get(job_id)
    if as_json:
        echo_json(job.raw)
    else:
        console().print(job_lines(job))


@dead.command()
@click.argument("job_ids", nargs=-1, required=True)
@as_json_option
@pass_login
def retry(login: Login, job_ids: tuple[str, ...], as_json: bool) -> None:
    """Try dead letters again, each as a new job."""
    with login.client() as client:
        for job_id in job_ids:
            again = client.retry(job_id)
            if as_json:
                echo_json(again.raw)
            else:
                click.echo(f"{job_id} -> {again.id} ({again.status})")
