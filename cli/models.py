"""`truthgpt models`: the server's models, and what a directory would be as one of them."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import click

from cli.login import Login, pass_login
from cli.options import as_json_option
from cli.terminal.screen import console, echo_json, harmless, models_table

CHECK = "workers.engines.check"
QUIET = {"TRANSFORMERS_VERBOSITY": "error", "HF_HUB_OFFLINE": "1", "TQDM_DISABLE": "1"}
MINUTES = 30


@click.group(
    invoke_without_command=True, short_help="List the server's models; check a model's directory."
)
@as_json_option
@pass_login
@click.pass_context
def models(ctx: click.Context, login: Login, as_json: bool) -> None:
    """List the models that the server knows; `check` looks at a directory before it is served."""
    if ctx.invoked_subcommand is not None:
        return
    with login.client() as client:
        found = client.models()
    if as_json:
        echo_json({"data": [model.raw for model in found]})
    else:
        console().print(models_table(found))


@models.command()
@click.argument("path", type=click.Path(path_type=Path))
@click.option(
    "--engine",
    type=click.Choice(["text-generation", "embedding", "ranking", "pipeline"]),
    help="Try this one. Default: the one that the files speak for.",
)
@click.option("--task", help="Of the pipeline engine, such as image-classification.")
@click.option("--device", default="auto", show_default=True)
@click.option("--dtype", default="auto", show_default=True)
@click.option("--against", is_flag=True, help="Compare with transformers or sentence-transformers.")
@as_json_option
def check(path: Path, as_json: bool, against: bool, **options: str | None) -> None:
    """Say what a model's directory is, which engine takes it and how, and run one input.

    Needs no server. Exit status 1: it cannot be served, or answers otherwise than the library does.
    """
    command = [sys.executable, "-m", CHECK, str(path), *(["--against"] if against else [])]
    for name, value in options.items():
        command += [f"--{name}", value] if value else []
    ran = subprocess.run(
        command,
        env={**os.environ, **QUIET},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=MINUTES * 60,
    )
    try:
        told = json.loads(ran.stdout)
    except ValueError:
        said = ran.stderr.decode("utf-8", "replace").strip().splitlines() or ["it said nothing"]
        raise click.ClickException(f"the check broke off: {harmless(said[-1])}") from None
    if as_json:
        echo_json(told)
    else:
        for line in lines(told):
            click.echo(harmless(line))
    if told["problem"] is not None and not as_json:
        raise click.ClickException(harmless(told["problem"]))
    if ran.returncode:
        raise SystemExit(1)


def lines(told: dict[str, Any]) -> list[str]:
    """A report for people, a line a fact."""
    found = []
    if "kind" in told:
        task = told["options"].get("task")
        found.append(f"what     {told['kind']}")
        found.append(f"engine   {told['engine']}{f', task: {task}' if task else ''}")
        found.append(f"read     {', '.join(told['files']['read'])}")
        left = told["files"]["left_alone"]
        found += [f"not read {', '.join(left)}"] if left else []
    if "memory" in told:
        memory = {name: f"{count / 2**20:,.1f} MiB" for name, count in told["memory"].items()}
        found.append(
            f"memory   {memory['needed']} ({memory['weights']} of weights); free here: {memory['free']}"
        )
    if "ran" in told:
        why = f" ({told['reason']})" if told.get("reason") else ""
        found.append(
            f"runs     {told['batching']}{why}, on {told['device']}, {told['dtype'] or '-'}"
        )
        found += [f"tokens   {told['max_tokens']} at most"] if told.get("max_tokens") else []
        for name, value in (told.get("parts") or {}).items():
            if value not in (None, [], {}):
                found.append(f"  {name}: {json.dumps(value, ensure_ascii=False)[:200]}")
        ran = told["ran"]
        found.append(
            f"ran      {_shown(ran['input'], 60)} -> {_shown(ran['output'], 120)}"
            f" in {ran['seconds']:.2f} s"
        )
    if told.get("against"):
        against = told["against"]
        found.append(
            f"against  {against['library']}: {'same' if against['same'] else 'NOT THE SAME'},"
            f" {against['difference']}"
        )
    return found


def _shown(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[:most]}…"
