"""A job as a prediction of Replicate's API, as its routes and its webhooks tell it."""

import hashlib
from collections.abc import Mapping
from typing import Any

import msgspec

from shared.domain.records import Record
from shared.domain.states import JobState

OWNER = "truthgpt"
"""Who owns every model here: names of the catalogue have no owner."""
STATUS: Mapping[JobState, str] = {
    JobState.QUEUED: "starting",
    JobState.RUNNING: "processing",
    JobState.SUCCEEDED: "succeeded",
    JobState.FAILED: "failed",
    JobState.EXPIRED: "failed",
    JobState.CANCELED: "canceled",
}
ENDED = {JobState.EXPIRED: "The deadline passed before a result existed."}
FILES = ("https:", "data:")
"""How a text begins that Replicate's Python client takes for a file."""
_DECODE = msgspec.json.Decoder().decode


def full_name(model: str) -> str:
    """A model's name as Replicate's clients need it, with an owner: `truthgpt/NAME`."""
    return f"{OWNER}/{model}"


def version_id(model: str) -> str:
    """The id of a model's only version. It names the model, whatever weights that has now: it is the same on
    every machine and after every restart.
    """
    return hashlib.sha256(full_name(model).encode()).hexdigest()


def prediction(
    record: Record,
    urls: Mapping[str, str],
    *,
    text: bool,
    given: Mapping[str, Any] | None = None,
    made: bool = False,
) -> dict[str, Any]:
    """A job as a prediction. `text`: whether its model's output is text.

    `given` is its input where that is known: jobs do not tell theirs. `made`: it has just been made, and is
    `starting` until it has ended: `run()` of Replicate's clients gives nothing back for one that is
    `processing`.
    """
    job = _DECODE(record.to_json())
    usage, model = job["usage"], job["model"]
    starts = made and not record.terminal
    return {
        "id": record.id,
        "model": full_name(model),
        "version": version_id(model),
        "status": STATUS[JobState.QUEUED if starts else record.state],
        "input": given,
        "output": _output(job["output"], text=text),
        "error": error(record.state, job["error"]),
        "logs": "",
        "metrics": metrics(usage) if record.terminal and usage else {},
        "source": "api",
        "created_at": job["created_at"],
        "started_at": job["started_at"],
        "completed_at": job["finished_at"],
        "urls": urls,
    }


def urls(base: str, job_id: str, ticket: str | None = None) -> dict[str, str]:
    """The `urls` of a prediction, absolute; with a ticket that of its stream opens without a token."""
    url = f"{base}/v1/predictions/{job_id}"
    query = f"?ticket={ticket}" if ticket is not None else ""
    return {"get": url, "cancel": f"{url}/cancel", "stream": f"{url}/stream{query}"}


def _output(made: Any, *, text: bool) -> Any:
    """A job's output: a list of strings where it is text, else as it is."""
    said = text_of(made) if text else None
    return made if said is None else pieces(said)


def text_of(made: Any) -> str | None:
    """The text of an output, None where it has none."""
    said = made.get("text") if isinstance(made, dict) else None
    return said if isinstance(said, str) else None


def pieces(text: str) -> list[str]:
    """A text in pieces none of which Replicate's Python client takes for a file."""
    if text.startswith(FILES):
        return [text[:1], text[1:]]
    return [text] if text else []


def error(state: JobState, failed: Mapping[str, Any] | None) -> str | None:
    """Why a job has no result, in words."""
    if STATUS[state] != "failed":
        return None
    return failed["message"] if failed is not None else ENDED.get(state, "The job failed.")


def metrics(usage: Mapping[str, Any]) -> dict[str, Any]:
    """What a job used, by Replicate's names. Times are in seconds."""
    told = {
        "predict_time": _seconds(usage["run_ms"]),
        "total_time": _seconds((usage["queue_ms"] or 0) + (usage["run_ms"] or 0)),
        "time_to_first_token": _seconds(usage["first_token_ms"]),
        "input_token_count": usage["prompt_tokens"],
        "output_token_count": usage["completion_tokens"],
        "cached_token_count": usage["cached_tokens"],
    }
    return {name: value for name, value in told.items() if value is not None}


def _seconds(milliseconds: float | None) -> float | None:
    return None if milliseconds is None else milliseconds / 1000
