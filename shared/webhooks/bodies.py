"""The bodies of webhooks, in the words of whom they are for. All of it was fixed when the event happened."""

from collections.abc import Mapping
from typing import Any

import msgspec

from shared.domain import predictions
from shared.domain.records import Record
from shared.domain.schemas import rfc3339

PREDICTION, TEXT_PREDICTION = "replicate", "replicate-text"
"""Forms of a job's webhook: a prediction of Replicate's API, the second where its output is text."""
EVENT = "openai"
"""The form of an event of OpenAI's API, which tells an id and no more."""


def body(fields: Mapping[str, str]) -> bytes:
    """The body of a delivery with these fields (shared/store/lua/lib/outbox.lua)."""
    form = fields.get("form", "")
    if form == EVENT:
        return msgspec.json.encode(_event(fields))
    if form in (PREDICTION, TEXT_PREDICTION):
        return msgspec.json.encode(_prediction(fields, text=form == TEXT_PREDICTION))
    return msgspec.json.encode(_job(fields))


def _record(fields: Mapping[str, str]) -> Record:
    told = {name.removeprefix("job."): v for name, v in fields.items() if name.startswith("job.")}
    return Record({"id": fields["job"], **told})


def _job(fields: Mapping[str, str]) -> dict[str, Any]:
    url = f"{fields['base']}/v1/jobs/{fields['job']}"
    urls = {"get": url, "events": f"{url}/events", "cancel": f"{url}/cancel"}
    return {
        "type": fields["type"],
        "timestamp": rfc3339(int(fields["created"])),
        "data": _record(fields).members(urls),
    }


def _prediction(fields: Mapping[str, str], *, text: bool) -> dict[str, Any]:
    urls = predictions.urls(fields["base"], fields["job"])
    return predictions.prediction(_record(fields), urls, text=text)


def _event(fields: Mapping[str, str]) -> dict[str, Any]:
    return {
        "id": f"evt_{fields['object'].rpartition('_')[2]}",
        "object": "event",
        "created_at": int(fields["created"]) // 1000,
        "type": fields["type"],
        "data": {"id": fields["object"]},
    }
