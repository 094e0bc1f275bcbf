"""The commands `submit`, `stream`, `get`, `cancel` and `jobs`, each a call of the HTTP API."""

import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import click

from cli.login import Login, pass_login
from cli.options import LISTED, as_json_option
from cli.terminal.screen import (
    console,
    echo_json,
    echo_list,
    harmless,
    job_lines,
    jobs_table,
    output_text,
    usage_line,
)
from client import Client, Event, Job, JobFailed

STATES = ("queued", "running", "succeeded", "failed", "canceled", "expired")


class Pair(click.ParamType[tuple[str, str]]):
    """`key=value`."""

    name = "key=value"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, str]:
        key, separator, rest = str(value).partition("=")
        if not separator or not key:
            self.fail(f"{value!r} is not key=value", param, ctx)
        return key, rest


class Json(click.ParamType[Any]):
    """Any JSON value, or `@FILE` that holds one; `@-` is standard input."""

    name = "json"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        try:
            return json.loads(_content_of(value) if value.startswith("@") else value)
        except OSError as error:
            self.fail(f"cannot read {value[1:]}: {error.strerror}", param, ctx)
        except ValueError as error:
            self.fail(f"not JSON: {error}", param, ctx)


def _content_of(name: str) -> str:
    """What the file of `@FILE` holds. Raises `OSError`, and `ValueError` where it is not UTF-8."""
    return sys.stdin.read() if name == "@-" else Path(name[1:]).read_text("utf-8")


@click.command()
@click.argument("model")
@click.argument("prompt", required=False)
@click.option(
    "--input", "content", type=Json(), help="Input as JSON, instead of PROMPT; @FILE reads it."
)
@click.option(
    "--param", "params", type=Pair(), multiple=True, help="max_new_tokens=64; repeatable."
)
@click.option("--priority", type=click.Choice(("high", "normal", "low")))
@click.option("--expires-in", type=click.FloatRange(min=0, min_open=True), help="Seconds.")
@click.option("--metadata", type=Pair(), multiple=True, help="key=value; repeatable.")
@click.option("--webhook", help="URL to send the job to when it starts and ends.")
@click.option("--idempotency-key", help="The same key and request give the same job.")
@click.option("--wait", is_flag=True, help="Wait for the end and print the output.")
@click.option("--stream", "follow", is_flag=True, help="Print the text as it comes.")
@as_json_option
@pass_login
def submit(
    login: Login,
    model: str,
    prompt: str | None,
    content: Any,
    params: Iterable[tuple[str, str]],
    priority: str | None,
    expires_in: float | None,
    metadata: Iterable[tuple[str, str]],
    webhook: str | None,
    idempotency_key: str | None,
    wait: bool,
    follow: bool,
    as_json: bool,
) -> None:
    """Submit a job for MODEL. PROMPT - is standard input."""
    if (prompt is None) == (content is None):
        raise click.UsageError("give either PROMPT or --input")
    if wait and follow:
        raise click.UsageError("--wait and --stream exclude each other")
    with login.client() as client:
        job = client.submit(
            model,
            sys.stdin.read() if prompt == "-" else prompt,
            input=content,
            params={key: _param(value) for key, value in params},
            priority=priority,
            expires_in=expires_in,
            metadata=dict(metadata),
            webhook={"url": webhook} if webhook else None,
            idempotency_key=idempotency_key,
        )
        if follow:
            if not as_json:
                click.secho(f"{job.id} {job.status}", dim=True, err=True)
            _follow(client, job.stream(), as_json)
            return
        job = job.wait() if wait else job
        _show(job, as_json)
    if wait:
        _require_success(job)
    elif not as_json:
        click.secho(f"Follow it with: truthgpt stream {job.id}", dim=True, err=True)


@click.command()
@click.argument("job_id", metavar="ID")
@click.option("--after", default="", help="Only what comes after the event with this id.")
@as_json_option
@pass_login
def stream(login: Login, job_id: str, after: str, as_json: bool) -> None:
    """Follow the job ID from its beginning to its end."""
    with login.client() as client:
        _follow(client, client.events(job_id, after=after), as_json)


@click.command()
@click.argument("job_id", metavar="ID")
@click.option("--wait", type=click.IntRange(1, 3600), help="Seconds to wait for the end.")
@as_json_option
@pass_login
def get(login: Login, job_id: str, wait: int | None, as_json: bool) -> None:
    """Show the job ID."""
    with login.client() as client:
        job = client.get(job_id)
        _show(job.wait(wait) if wait else job, as_json)


@click.command()
@click.argument("job_id", metavar="ID")
@as_json_option
@pass_login
def cancel(login: Login, job_id: str, as_json: bool) -> None:
    """Stop the job ID; a job that has ended stays as it is."""
    with login.client() as client:
        _show(client.cancel(job_id), as_json)


@click.command()
@click.option("--status", type=click.Choice(STATES))
@click.option("--model")
@click.option("--limit", type=click.IntRange(1), default=LISTED, show_default=True)
@as_json_option
@pass_login
def jobs(login: Login, status: str | None, model: str | None, limit: int, as_json: bool) -> None:
    """List jobs, newest first."""
    with login.client() as client:
        found = list(client.jobs(status=status, model=model, limit=limit))
    echo_list([job.raw for job in found], lambda: jobs_table(found), "no jobs", as_json=as_json)


def _param(value: str) -> Any:
    """`--param temperature=0.7` is a number, `--param stop='["."]'` a list, anything else a string."""
    try:
        return json.loads(value)
    except ValueError:
        return value


def _show(job: Job, as_json: bool) -> None:
    if as_json:
        echo_json(job.raw)
    else:
        console().print(job_lines(job))


def _follow(client: Client, events: Iterable[Event], as_json: bool) -> None:
    """Text goes to standard output as it comes and nothing else does, so it can be piped."""
    last: Event | None = None
    for event in events:
        last = event
        if as_json:
            echo_json({"event": event.type, "id": event.id, "data": event.data})
        elif event.type == "token" and event.choice == 0:
            click.echo(harmless(event.text), nl=False)
        elif event.type == "output":
            click.echo(json.dumps(event.data, ensure_ascii=False))
        elif event.type == "reset":
            click.secho("\nstarting over: the text above is void", fg="yellow", err=True)
    if last is not None and last.type == "done":
        _close(Job.parse(last.data, client), as_json)


def _close(job: Job, as_json: bool) -> None:
    if not as_json:
        is_text = isinstance(job.output, dict) and "text" in job.output
        click.echo("" if is_text or job.output is None else output_text(job.output))
        click.secho(f"{job.status}: {usage_line(job)}", dim=True, err=True)
    _require_success(job)


def _require_success(job: Job) -> None:
    if job.status != "succeeded":
        raise JobFailed(job)
