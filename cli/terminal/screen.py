"""Prints tables, jobs and lines for people, and JSON for scripts."""

import io
import json
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import click
from rich import box
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from client import Delivery, Job, Model

PIPE_WIDTH = 160
COLOURS = {
    "queued": "yellow",
    "running": "cyan",
    "succeeded": "green",
    "failed": "red",
    "canceled": "magenta",
    "expired": "magenta",
}
DELIVERY_COLOURS = {"pending": "yellow", "delivered": "green", "dead": "red"}
MODEL_COLOURS = {"ready": "green", "busy": "green", "failed": "red", "unhealthy": "red"}
BREAKER_COLOURS = {"closed": "green", "open": "red", "half_open": "yellow"}
# Everything that could move a terminal's cursor or give it orders; newline and tab stay.
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


@dataclass(frozen=True, slots=True)
class Summary:
    """What `up` says once it serves. `token` says where the token is, never what it is."""

    api: str
    flower: str | None
    token: str
    models: list[Model]


def console() -> Console:
    """The console on standard output; wide in a pipe, so that no table cuts an id."""
    return Console(width=None if sys.stdout.isatty() else PIPE_WIDTH, highlight=False)


def rendered(renderable: RenderableType) -> str:
    """Anything that rich can print as text, with colours where standard output shows them."""
    ours = console()
    buffer = io.StringIO()
    Console(file=buffer, width=ours.width, force_terminal=ours.is_terminal, highlight=False).print(
        renderable
    )
    return buffer.getvalue().rstrip("\n")


def echo_json(value: Any) -> None:
    """One JSON document on one line."""
    click.echo(json.dumps(value, ensure_ascii=False))


def echo_list(
    rows: Sequence[Any], table: Callable[[], Table], nothing: str, *, as_json: bool
) -> None:
    """Rows as JSON for scripts; for people the table of them, or the words for none."""
    if as_json:
        echo_json({"data": list(rows)})
    elif rows:
        console().print(table())
    else:
        click.echo(nothing)


def harmless(text: str) -> str:
    """A model's text for a terminal: it cannot move the cursor or change settings."""
    return without_controls(text) if sys.stdout.isatty() else text


def without_controls(text: str) -> str:
    """A text with a replacement character for everything that could give a terminal orders."""
    return _CONTROLS.sub("�", text)


def summary(facts: Summary) -> RenderableType:
    """The table at the end of a start."""
    places = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    places.add_row("API", facts.api)
    places.add_row("Console", f"{facts.api}/console")
    places.add_row("Docs", f"{facts.api}/docs")
    if facts.flower is not None:
        places.add_row("Flower", f"{facts.flower}  (user truthgpt, password: the token)")
    places.add_row("Token", facts.token)
    return Group(Text(), places, Text(), models_table(facts.models), Text())


def summary_facts(facts: Summary) -> dict[str, Any]:
    """What the table at the end of a start says, as fields for a log."""
    models = [
        {
            "model": model.name,
            "engine": model.engine,
            "device": model.device,
            "workers": model.workers,
            "waiting": model.queue_depth,
            "state": model.state,
        }
        for model in facts.models
    ]
    return {
        "api": facts.api,
        "console": f"{facts.api}/console",
        "docs": f"{facts.api}/docs",
        "flower": facts.flower,
        "token": facts.token,
        "models": models,
    }


def models_table(models: Iterable[Model]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in ("Model", "Engine", "Device", "Workers", "Waiting", "State"):
        table.add_column(heading, justify="right" if heading in ("Workers", "Waiting") else "left")
    for model in models:
        table.add_row(
            model.name,
            model.engine,
            model.device or "",
            str(model.workers),
            str(model.queue_depth),
            Text(model.state, MODEL_COLOURS.get(model.state, "yellow")),
        )
    return table


def breakers_table(rows: Iterable[Mapping[str, Any]]) -> Table:
    """A row a breaker, as `truthgpt breakers list --json` has them."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("Model")
    table.add_column("Worker")
    table.add_column("State")
    for heading in ("In a row", "Failed", "Succeeded", "Opened", "Next try"):
        table.add_column(heading, justify="right")
    for row in rows:
        state, wait = str(row.get("state", "")), row.get("retry_after_ms") or 0
        table.add_row(
            str(row["model"]),
            str(row["worker"] or ""),
            Text(state.replace("_", "-"), BREAKER_COLOURS.get(state, "")),
            *(
                str(row.get(name, ""))
                for name in ("consecutive_failures", "failures", "successes", "opened")
            ),
            f"{wait / 1000:.0f} s" if wait else "",
        )
    return table


def jobs_table(jobs: Iterable[Job]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("Job", no_wrap=True)
    for heading in ("Model", "Status", "Created", "Took", "Why"):
        table.add_column(heading)
    for job in jobs:
        table.add_row(
            job.id,
            job.model,
            status_text(job),
            (job.created_at or "").replace("T", " ").removesuffix("Z"),
            _took(job.usage),
            job.error.code if job.error is not None else "",
        )
    return table


def deliveries_table(deliveries: Iterable[Delivery]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("Job", no_wrap=True)
    for heading in ("Event", "Status", "Attempts", "Next", "Why", "URL"):
        table.add_column(heading, overflow="fold")
    for delivery in deliveries:
        answered = f" ({delivery.response_status})" if delivery.response_status else ""
        table.add_row(
            delivery.job_id,
            delivery.type,
            Text(delivery.status, DELIVERY_COLOURS.get(delivery.status, "")),
            str(delivery.attempts),
            (delivery.next_attempt_at or "").replace("T", " ").removesuffix("Z"),
            Text(f"{delivery.error or ''}{answered}"),
            Text(harmless(delivery.url)),
        )
    return table


def status_text(job: Job) -> Text:
    said = job.status
    if job.cancel_requested and not job.done:
        said += " (cancel requested)"
    elif job.status == "queued" and job.queue_position is not None:
        said += f" ({job.queue_position} in line)"
    return Text(said, COLOURS.get(job.status, ""))


def job_lines(job: Job) -> RenderableType:
    """One job: what it is, how it went, what came out."""
    rows: list[RenderableType] = [
        Text.assemble((job.id, "bold"), "  ", job.model, "  ", status_text(job))
    ]
    if facts := usage_line(job):
        rows.append(Text(facts, "dim"))
    if job.error is not None:
        rows.append(Text(f"{job.error.code}: {harmless(job.error.message)}", "red"))
    if job.output is not None:
        rows.append(Text(harmless(output_text(job.output))))
    return Group(*rows)


def output_text(output: Any) -> str:
    """An output for people: the text of a text, the shape of embeddings, else JSON."""
    if isinstance(output, dict):
        if isinstance(output.get("text"), str):
            return str(output["text"])
        if isinstance(rows := output.get("embeddings"), list) and rows:
            start = ", ".join(f"{number:.3f}" for number in rows[0][:4])
            return f"{len(rows)} embeddings of {output.get('dimensions')} numbers: [{start}, …]"
    return json.dumps(output, ensure_ascii=False, indent=2)


def usage_line(job: Job) -> str:
    """`23 tokens, waited 4 ms, ran 310 ms`, of what is known; '' when nothing is."""
    usage = job.usage
    parts = []
    if (tokens := usage.get("completion_tokens")) is not None:
        parts.append(f"{tokens} tokens")
    for name, verb in (("queue_ms", "waited"), ("run_ms", "ran")):
        if (value := usage.get(name)) is not None:
            parts.append(f"{verb} {value:.0f} ms")
    if (usage.get("attempts") or 0) > 1:
        parts.append(f"{usage['attempts']} attempts")
    if job.cached:
        parts.append("from the cache")
    return ", ".join(parts)


def _took(usage: Mapping[str, Any]) -> str:
    run = usage.get("run_ms")
    return "" if run is None else f"{run:.0f} ms"
