"""What comes before an answer: the response that it goes on with, the items that are named, and the input."""

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import msgspec

from api.openai.responses.documents import (
    PREFIX,
    Asked,
    asked_of,
    input_items,
    job_id_of,
    output_items,
)
from api.openai.responses.items import Item, ItemReference, kept
from api.openai.responses.request import ResponseRequest
from shared.domain.errors import InvalidRequest, JobNotFound, JobsError
from shared.domain.records import Record
from shared.store.jobs import JobStore

_OF_RESPONSE = re.compile(r"[a-z]+_([0-9a-f]{32})_i?[0-9]+")
_DECODE = msgspec.json.Decoder().decode


class ResponseNotFound(JobsError):
    """Also of one that is another tenant's, or that is not kept."""

    code = "response_not_found"

    def __init__(self, response_id: str) -> None:
        super().__init__(
            f"There is no response {response_id[:80]!r}. It may have been deleted, have expired, or have "
            "been made with store: false."
        )


class Found(NamedTuple):
    """A response: its job's record, the job as its document, and what was asked."""

    record: Record
    job: Mapping[str, Any]
    asked: Asked


class Responses:
    """The responses of one tenant, each read once."""

    def __init__(self, store: JobStore, tenant: str) -> None:
        self._store = store
        self._tenant = tenant
        self._known: dict[str, Found] = {}

    def get(self, response_id: str) -> Found:
        """A response. Raises `ResponseNotFound`."""
        if response_id not in self._known:
            try:
                record, asked = self._store.asked(job_id_of(response_id), self._tenant)
            except JobNotFound:
                raise ResponseNotFound(response_id) from None
            if (found := asked_of(asked)) is None:
                raise ResponseNotFound(response_id)
            job = _DECODE(record.to_json())
            self._known[response_id] = Found(record, job, found)
        return self._known[response_id]

    def conversation(self, request: ResponseRequest) -> list[Item]:
        """All items that come before the answer. Raises `InvalidRequest`."""
        found = self._before(request.previous_response_id)
        if isinstance(request.input, str):
            content = [{"type": "input_text", "text": request.input}]
            said = {"role": "user", "content": content, "status": "completed"}
            return [*found, {"type": "message", **said}]
        for item in request.input:
            found.append(self._named(item.id) if isinstance(item, ItemReference) else kept(item))
        return found

    def _before(self, response_id: str | None) -> list[Item]:
        if response_id is None:
            return []
        try:
            _, job, asked = self.get(response_id)
        except ResponseNotFound as gone:
            raise InvalidRequest(gone.detail, code="previous_response_not_found") from None
        if job["status"] != "succeeded":
            raise InvalidRequest(
                f"The response {response_id!r} has no output to go on with: its job is {job['status']}."
            )
        return [*input_items(job["id"], asked), *output_items(job)]

    def _named(self, item_id: str) -> Item:
        """An item of an earlier response, which its id names."""
        if (made := _OF_RESPONSE.fullmatch(item_id)) is not None:
            try:
                _, job, asked = self.get(PREFIX + made[1])
            except ResponseNotFound:
                # The refusal below says what to do, as for an id that never was.
                pass
            else:
                for item in (*output_items(job), *input_items(job["id"], asked)):
                    if item["id"] == item_id:
                        return item
        raise InvalidRequest(
            f"There is no item {item_id!r}. Items are kept with their response: it may have been deleted, "
            "have expired, or have been made with store: false. Send the item itself."
        )
