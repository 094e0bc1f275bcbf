"""`truthgpt breakers`: shows the circuit breakers of models and workers, and closes one by hand."""

from collections.abc import Iterator
from typing import Any

import click

from cli.login import Login, pass_login
from cli.options import as_json_option
from cli.terminal.screen import breakers_table, console, echo_json
from client import Model


@click.group()
def breakers() -> None:
    """Circuit breakers: list, reset."""


@breakers.command("list")
@as_json_option
@pass_login
def list_breakers(login: Login, as_json: bool) -> None:
    """List each model's breaker and, below it, its workers' own."""
    with login.client() as client:
        rows = list(_rows(client.models()))
    if as_json:
        echo_json({"data": rows})
    else:
        console().print(breakers_table(rows))


@breakers.command()
@click.argument("model")
@as_json_option
@pass_login
def reset(login: Login, model: str, as_json: bool) -> None:
    """Close the breaker of MODEL and those of its workers."""
    with login.client() as client:
        after = client.reset_breaker(model)
    breaker = dict(after.raw.get("breaker") or {})
    if as_json:
        echo_json({"model": after.name, **breaker})
    else:
        click.echo(f"{after.name}: {breaker.get('state', 'unknown')}")


def _rows(models: list[Model]) -> Iterator[dict[str, Any]]:
    for model in models:
        yield {"model": model.name, "worker": None, **(model.raw.get("breaker") or {})}
        for worker in model.raw.get("workers") or ():
            if isinstance(own := worker.get("breaker"), dict):
                yield {"model": model.name, "worker": worker.get("name"), **own}
