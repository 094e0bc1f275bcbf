"""A job as a prediction."""

from collections.abc import Mapping
from typing import Any

import msgspec

from api.http.answers import Links
from api.replicate.models import full_name, streams_text, version_id
from shared.domain.catalog import Catalog
from shared.domain.records import Record
from shared.domain.states import JobState

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


def prediction(
    record: Record,
    urls: Links,
    catalog: Catalog,
    *,
    given: Mapping[str, Any] | None = None,
    made: bool = False,
) -> dict[str, Any]:
    """A job as a prediction. `given` is its input where that is known: jobs do not tell theirs.

    `made`: it has just been made, and is `starting` until it has ended: `run()` of Replicate's clients gives
    nothing back for one that is `processing`.
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
        "output": output(job["output"], model, catalog),
        "error": error(record.state, job["error"]),
        "logs": "",
        "metrics": metrics(usage) if record.terminal and usage else {},
        "source": "api",
        "created_at": job["created_at"],
        "started_at": job["started_at"],
        "completed_at": job["finished_at"],
        "urls": links(record.id, urls),
    }


def links(job_id: str, urls: Links) -> dict[str, str]:
    """The `urls` of a prediction, absolute; that of its stream carries a ticket, for node sends no token."""
    url = f"{urls.base}/v1/predictions/{job_id}"
    stream = f"{url}/stream?ticket={urls.tickets.issue(job_id)}"
    return {"get": url, "cancel": f"{url}/cancel", "stream": stream}


def output(made: Any, model: str, catalog: Catalog) -> Any:
    """A job's output: a list of strings where it is text, else as it is."""
    text = text_of(made, model, catalog)
    return made if text is None else pieces(text)


def text_of(made: Any, model: str, catalog: Catalog) -> str | None:
    """The text that an output is, and that its job has streamed; None where it is something else."""
    spec = next((spec for spec in catalog if spec.name == model), None)
    text = made.get("text") if isinstance(made, dict) else None
    return text if isinstance(text, str) and (spec is None or streams_text(spec)) else None


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
