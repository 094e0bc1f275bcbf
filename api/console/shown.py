"""Jobs as pages show them: rows, timelines, requests and outputs, made from what the store keeps."""

import json
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from shared.domain.events import Event
from shared.domain.records import Record
from shared.domain.states import JobState

MOST_SHOWN = 100_000
"""Characters of an input or output that a page shows; the API has all of it."""
FEW_NUMBERS = 6
_decode = msgspec.json.Decoder().decode


@dataclass(frozen=True, slots=True)
class Row:
    """A job in a list. Times are ms since 1970, `waited` and `ran` ms."""

    id: str
    model: str
    state: str
    created: int
    finished: int | None
    waited: float | None
    ran: float | None
    tokens: int | None
    cached: bool
    error: str

    @classmethod
    def of(cls, record: Record) -> "Row":
        fields = record.fields
        usage = _json(fields.get("usage")) or {}
        error = _json(fields.get("error")) or {}
        return cls(
            id=record.id,
            model=fields["model"],
            state=fields["state"],
            created=int(fields["created"]),
            finished=_number(fields.get("finished")),
            waited=usage.get("queue_ms"),
            ran=usage.get("run_ms"),
            tokens=usage.get("completion_tokens"),
            cached=fields.get("cached") == "1",
            error=str(error.get("code", "")),
        )


@dataclass(frozen=True, slots=True)
class Step:
    """One line of a timeline. `at` is ms since 1970, None where nobody noted it; `note` is text."""

    what: str
    at: float | None = None
    note: str = ""
    kind: str = ""


def timeline(record: Record, events: list[Event], *, operates: bool) -> list[Step]:
    """What happened to a job, in order.

    `events` are those of the log of a job of old, whose record does not tell when its attempts ended.
    """
    fields = record.fields
    created = int(fields["created"])
    usage = _json(fields.get("usage")) or {}
    steps = [Step("Queued", created)]
    past = record.past
    for one in past:
        steps.append(Step("Started", one.began, one.worker if operates else "", "running"))
        steps.append(Step("Attempt ended", one.ended, one.reason, "failed"))
    if not past:
        reasons = (_decode(event.data).get("reason") for event in events)
        steps += [Step("Attempt ended", None, str(why), "failed") for why in reasons if why]
    began = _number(fields.get("claimed" if past else "started"))
    if began is not None and (not past or int(fields["attempt"]) > past[-1].attempt):
        steps.append(
            Step("Started", began, fields.get("worker", "") if operates else "", "running")
        )
    if (first := usage.get("first_token_ms")) is not None:
        steps.append(Step("First token", created + first))
    if (finished := _number(fields.get("finished"))) is not None:
        steps.append(Step(fields["state"].capitalize(), finished, "", fields["state"]))
    return steps


def body_of(stored: bytes, model: str) -> dict[str, Any]:
    """The body of `POST /v1/jobs` that asks what a job asked. `stored`: that job's request, as it is kept."""
    told = _decode(stored)
    content, params = told["content"], told.get("params") or {}
    body: dict[str, Any] = {"model": model}
    body["prompt" if isinstance(content, str) else "input"] = content
    return body | ({"params": params} if params else {})


@dataclass(frozen=True, slots=True)
class Request:
    """What was asked: `text` of the input, `params` with their values as text, commands that ask it again."""

    text: str
    cut: bool
    params: Mapping[str, str]
    curl: str
    python: str

    @classmethod
    def of(cls, stored: bytes, model: str, base: str) -> "Request":
        body = body_of(stored, model)
        content, params = body.get("prompt", body.get("input")), body.get("params", {})
        text = content if isinstance(content, str) else _pretty(content)
        shown = {name: compact(value) for name, value in params.items()}
        return cls(
            text[:MOST_SHOWN],
            len(text) > MOST_SHOWN,
            shown,
            as_curl(base, body),
            as_python(base, body),
        )


def as_curl(base: str, body: Mapping[str, Any]) -> str:
    """A command that makes such a job, for a POSIX shell that has `TRUTHGPT_API_TOKEN`."""
    return (
        f"curl {shlex.quote(f'{base}/v1/jobs')} \\\n"
        '  -H "Authorization: Bearer $TRUTHGPT_API_TOKEN" \\\n'
        "  -H 'Content-Type: application/json' \\\n"
        f"  -d {shlex.quote(_pretty(body))}"
    )


def as_python(base: str, body: Mapping[str, Any]) -> str:
    """A submission as a program for the Python client, which finds its token in the environment."""
    arguments = "".join(f"        {name}={value!r},\n" for name, value in body.items())
    return (
        "from client import Client\n\n"
        f"with Client({base!r}) as client:\n"
        f"    job = client.submit(\n{arguments}    )\n"
        "    print(job.wait(600).output)"
    )


@dataclass(frozen=True, slots=True)
class Output:
    """What came out. `texts` are the texts that a model wrote, `rows` the starts of vectors, else `json`."""

    texts: tuple[str, ...] = ()
    rows: tuple[str, ...] = ()
    dimensions: int | None = None
    json: str = ""
    finish: str = ""
    cut: bool = False

    @classmethod
    def of(cls, record: Record) -> "Output | None":
        found = _json(record.fields.get("output"))
        if found is None:
            return None
        if isinstance(found, dict):
            if isinstance(vectors := found.get("embeddings"), list) and vectors:
                rows = tuple(_start(vector) for vector in vectors[:100])
                return cls(rows=rows, dimensions=found.get("dimensions"), cut=len(vectors) > 100)
            choices = found.get("choices")
            written = choices if isinstance(choices, list) else [found]
            if texts := [one["text"] for one in written if _is_text(one)]:
                shown = tuple(text[:MOST_SHOWN] for text in texts)
                cut = any(len(text) > MOST_SHOWN for text in texts)
                return cls(texts=shown, finish=str(found.get("finish_reason") or ""), cut=cut)
        text = _pretty(found)
        return cls(json=text[:MOST_SHOWN], cut=len(text) > MOST_SHOWN)


def error_of(record: Record) -> Mapping[str, Any] | None:
    """Why a job did not succeed: code and message."""
    found: Mapping[str, Any] | None = _json(record.fields.get("error"))
    return found


def message_of(record: Record) -> Mapping[str, Any] | None:
    """What a model has said in a chat, as the message that goes along with the next one."""
    found = _json(record.fields.get("output"))
    if not isinstance(found, dict):
        return None
    message = found.get("message")
    if isinstance(message, dict):
        return message
    return {"role": "assistant", "content": found["text"]} if _is_text(found) else None


def usage_of(record: Record) -> Mapping[str, Any]:
    """What a job used, of what is known."""
    usage = _json(record.fields.get("usage")) or {}
    return {name: value for name, value in usage.items() if value is not None}


def metadata_of(record: Record) -> Mapping[str, str]:
    found: Mapping[str, str] = _json(record.fields.get("metadata")) or {}
    return found


def live(record: Record) -> bool:
    return record.state in (JobState.QUEUED, JobState.RUNNING)


def _is_text(one: Any) -> bool:
    return isinstance(one, dict) and isinstance(one.get("text"), str)


def _start(vector: Any) -> str:
    if not isinstance(vector, list):
        return compact(vector)
    numbers = ", ".join(compact(value) for value in vector[:FEW_NUMBERS])
    return f"[{numbers}, …]" if len(vector) > FEW_NUMBERS else f"[{numbers}]"


def _json(stored: str | None) -> Any:
    return _decode(stored) if stored else None


def _number(stored: str | None) -> int | None:
    return int(stored) if stored else None


def _pretty(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, indent=2)


def compact(value: Any) -> str:
    """Any JSON on one line: a text as it is, numbers with six figures."""
    if isinstance(value, float):
        return f"{value:.6g}"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
