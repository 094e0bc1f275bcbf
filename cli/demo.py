"""Submits one real job to every model of a server and shows its tokens as they come."""

import math
from collections.abc import Sequence

import click

from cli.terminal.screen import harmless, usage_line
from client import Client, ClientError, Event, Job, JobFailed, Model, text_of

PROMPT = "The function returns"
ECHO = "Every token of this line came through a durable queue."
SENTENCES = (
    "A list can be sorted in place.",
    "Sorting changes the order of the elements of a sequence.",
    "The weather was cold and wet.",
)
PARAMS = {"max_new_tokens": 96}
GONE = ("failed", "offline")
PATIENCE = 120.0
"""Seconds that a demo job has, from its submission to its end."""


class DemoFailed(ClientError):
    """A demo job did not do what the server promises."""


def run_demo(client: Client) -> None:
    """Run the jobs and print them. Raises `ClientError` or `TimeoutError` at the first that fails."""
    models = client.models()
    shown = 0
    for model in models:
        if model.state in GONE:
            raise DemoFailed(f"{model.name} is {model.state}; the server's log says why")
        place = f"{model.engine} on {model.device}" if model.device else model.engine
        click.secho(f"\n{model.name}", bold=True, nl=False)
        click.secho(f"  {place}", dim=True)
        match model.engine:
            case "text-generation" | "vllm":
                job = _stream(client, model, PROMPT, dict(PARAMS))
            case "echo":
                job = _stream(client, model, ECHO, {})
            case "embedding":
                job = _embed(client, model)
            case _:
                click.echo("its input is its author's affair: no demo for this one")
                continue
        shown += 1
        click.secho(f"{job.id}: {usage_line(job)}", dim=True)
    if not shown:
        raise DemoFailed("the catalogue has no model that the demo knows how to ask")


def how_to_go_on(url: str, models: Sequence[Model]) -> str:
    """Lines to copy. The token is named by its place only."""
    name = next((model.name for model in models if model.engine != "embedding"), "MODEL")
    return (
        "\nGo on with\n"
        f'  truthgpt submit {name} "{PROMPT}" --stream\n'
        "  truthgpt jobs\n"
        f"  {url}/docs\n"
    )


def _stream(client: Client, model: Model, prompt: str, params: dict[str, object]) -> Job:
    events: list[Event] = []
    click.secho(prompt, fg="cyan", nl=False)
    # An echo says its prompt again; a language model goes on in the same line.
    click.echo(" → " if model.engine == "echo" else "", nl=False)
    submitted = client.submit(model.name, prompt, params=params, expires_in=PATIENCE)
    for event in submitted.stream():
        events.append(event)
        click.echo(harmless(event.text), nl=False)
    click.echo()
    job = _succeeded(submitted.wait(PATIENCE))
    if text_of(events) != job.text():
        raise DemoFailed(f"job {job.id}: the streamed tokens are not the output's text")
    return job


def _embed(client: Client, model: Model) -> Job:
    submitted = client.submit(model.name, input=list(SENTENCES), expires_in=PATIENCE)
    job = _succeeded(submitted.wait(PATIENCE))
    rows = job.output["embeddings"]
    if len(rows) != len(SENTENCES):
        raise DemoFailed(f"job {job.id}: {len(rows)} embeddings for {len(SENTENCES)} sentences")
    click.echo(f"{len(rows)} embeddings of {job.output['dimensions']} numbers; likeness to")
    click.secho(f"         {SENTENCES[0]}", fg="cyan")
    for sentence, row in zip(SENTENCES[1:], rows[1:], strict=True):
        click.echo(f"  {_cosine(rows[0], row):5.2f}  {sentence}")
    return job


def _succeeded(job: Job) -> Job:
    if job.status != "succeeded":
        raise JobFailed(job)
    return job


def _cosine(one: Sequence[float], other: Sequence[float]) -> float:
    product = sum(a * b for a, b in zip(one, other, strict=True))
    return product / (math.hypot(*one) * math.hypot(*other))
