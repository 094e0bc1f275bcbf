"""The `truthgpt` command and its groups."""

import importlib
from typing import Any

import click

from cli.login import DEFAULT_URL, Login
from shared.domain.errors import JobsError
from shared.surroundings import shed

COMMANDS = {
    "up": "cli.serving.up",
    "demo": "cli.serving.up",
    "submit": "cli.jobs",
    "stream": "cli.jobs",
    "get": "cli.jobs",
    "cancel": "cli.jobs",
    "jobs": "cli.jobs",
    "models": "cli.models",
    "top": "cli.terminal.top",
    "dead": "cli.dead",
    "usage": "cli.usage",
    "breakers": "cli.breakers",
    "audit": "cli.audit",
    "keys": "cli.keys",
    "webhooks": "cli.webhooks",
    "api": "cli.serving.processes",
    "worker": "cli.serving.processes",
    "rescue": "cli.serving.processes",
    "batches": "cli.serving.processes",
    "flower": "cli.serving.processes",
    "health": "cli.serving.health",
}
SERVER = frozenset({"up", "api", "worker", "rescue", "batches", "flower"})
"""Commands that start a server or a process of one."""


class Commands(click.Group):
    """Imports a command's module when it is used, and says every expected error in one line."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002  click's signature
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        module = COMMANDS.get(cmd_name)
        if module is None:
            return None
        command = getattr(importlib.import_module(module), cmd_name)
        assert isinstance(command, click.Command)
        return command

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except SystemExit:
            # Of a server's process, which is not to load the client for it.
            raise
        except JobsError as error:
            raise click.ClickException(error.detail) from error
        except _of_a_server() as error:
            raise click.ClickException(in_one_line(error)) from error


def _of_a_server() -> tuple[type[Exception], ...]:
    """What commands that call a server raise. The processes of a server do not load the client."""
    from client import ClientError

    return ClientError, TimeoutError


def in_one_line(error: Exception) -> str:
    """What went wrong and what to do about it."""
    from client import ApiError, ConnectionFailed

    match error:
        case ConnectionFailed():
            return (
                f"cannot reach {error.url} ({error.reason}). "
                "Start a server with `truthgpt up`, or name one with --url"
            )
        case ApiError(status=401):
            return (
                "the server refused the token. Set TRUTHGPT_API_TOKEN or --token, or point "
                "TRUTHGPT_STATE_DIR at the server's state directory"
            )
        case ApiError():
            rows = [
                f"{'.'.join(str(part) for part in row.get('loc', ()))}: {row.get('msg')}"
                for row in error.errors
            ]
            detail = "; ".join(rows) if rows else error.detail
            again = f" Try again in {error.retry_after:g} s." if error.retry_after else ""
            return f"{detail}{again} ({error.code}, request {error.request_id or 'unknown'})"
        case _:
            return str(error)


def _show_version(ctx: click.Context, param: click.Parameter, asked: bool) -> None:  # noqa: ARG001
    if not asked:
        return
    from importlib.metadata import PackageNotFoundError, version

    try:
        number = version("truthgpt-inference")
    except PackageNotFoundError:
        number = "(not installed)"
    click.echo(f"truthgpt, version {number}")
    ctx.exit()


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--version",
    is_flag=True,
    expose_value=False,
    is_eager=True,
    callback=_show_version,
    help="Show the version and exit.",
)
@click.option("--url", envvar="TRUTHGPT_URL", help=f"The server. Default: {DEFAULT_URL}.")
@click.option(
    "--token",
    envvar="TRUTHGPT_API_TOKEN",
    help="Better in TRUTHGPT_API_TOKEN. Default: the token that a local server stored.",
)
@click.pass_context
def main(ctx: click.Context, url: str | None, token: str | None) -> None:
    """A durable, queue-backed job system for model inference."""
    # Before a command reads its options: they come from the environment, too.
    shed(ctx.invoked_subcommand if ctx.invoked_subcommand in SERVER else None)
    ctx.obj = Login(url or DEFAULT_URL, token, explicit=url is not None)
