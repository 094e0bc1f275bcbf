"""Whether the input of a batch is one, found out line by line before any job is made."""

import hashlib
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import msgspec

from api.batches.lines import Line, LineFault, Request, lines, request_of
from shared.domain.batches import MAX_EMBEDDING_INPUTS, MAX_LINES, Batch
from shared.domain.errors import UnknownModel
from shared.domain.files import place_of
from shared.domain.models.catalog import Catalog
from shared.domain.requests.inputs import items_to_embed
from shared.files import Storage

MOST_FAULTS = 100
"""Faults that are told; behind these a file is not read on."""
EMBEDDINGS = "/v1/embeddings"


class Fault(NamedTuple):
    """A fault of an input file, in a batch's `errors`. `line` counts from 1; None: the whole file."""

    code: str
    message: str
    param: str | None = None
    line: int | None = None


def to_errors(faults: Sequence[Fault]) -> str:
    """Faults in JSON, as a batch holds them."""
    return msgspec.json.encode([fault._asdict() for fault in faults]).decode()


class Verdict(NamedTuple):
    """How many lines there are, and what is wrong with them."""

    total: int
    faults: list[Fault]


class Validator:
    """Validates one batch. `most_bytes` and `most_values` are of a line; `alive` is called at every line."""

    def __init__(
        self,
        batch: Batch,
        catalog: Catalog,
        most_bytes: int,
        most_values: int,
        alive: Callable[[], None],
    ) -> None:
        self._batch = batch
        self._catalog = catalog
        self._most_bytes = most_bytes
        self._most_values = most_values
        self._alive = alive
        self._seen: dict[bytes, int] = {}
        """By the digest of a `custom_id`, its line: a hundred bytes a line, however long the ids are."""
        self._inputs = 0

    def run(self, storage: Storage) -> Verdict:
        """Raises as `Storage.read`."""
        batch, faults, total = self._batch, list[Fault](), 0
        place = place_of(batch.input_file)
        for line in lines(storage, place, batch.input_bytes, self._most_bytes):
            self._alive()
            total += 1
            if total > MAX_LINES:
                faults.append(
                    Fault("too_many_tasks", f"The file has more than {MAX_LINES} lines.", None)
                )
                break
            try:
                self._check(line)
            except LineFault as fault:
                faults.append(Fault(fault.code, fault.message, fault.param, line.number + 1))
                if len(faults) == MOST_FAULTS:
                    break
        if total == 0:
            faults.append(Fault("empty_file", "The file has no lines."))
        if self._inputs > MAX_EMBEDDING_INPUTS:
            faults.append(
                Fault(
                    "too_many_inputs",
                    f"The file has {self._inputs} inputs of embeddings, and {MAX_EMBEDDING_INPUTS} may be.",
                )
            )
        return Verdict(total, faults)

    def _check(self, line: Line) -> None:
        asked = request_of(line, self._most_bytes, self._most_values)
        self._check_unique(asked, line)
        if asked.method != "POST":
            raise LineFault("invalid_method", "'method' must be 'POST'.", "method")
        if asked.url != self._batch.endpoint:
            raise LineFault(
                "mismatched_endpoint",
                f"'url' must be the batch's endpoint, {self._batch.endpoint!r}.",
                "url",
            )
        if not isinstance(asked.body, dict):
            raise LineFault("invalid_request", "'body' must be an object.", "body")
        self._check_model(asked.body.get("model"))
        if self._batch.endpoint == EMBEDDINGS:
            self._inputs += len(items_to_embed(asked.body.get("input")))

    def _check_unique(self, asked: Request, line: Line) -> None:
        name = hashlib.blake2b(asked.custom_id.encode(), digest_size=16).digest()
        if (first := self._seen.setdefault(name, line.number)) != line.number:
            raise LineFault(
                "duplicate_custom_id", f"Line {first + 1} has the same 'custom_id'.", "custom_id"
            )

    def _check_model(self, model: Any) -> None:
        try:
            if not isinstance(model, str):
                raise LineFault(
                    "missing_required_parameter", "'body' has no 'model'.", "body.model"
                )
            self._catalog.get(model)
        except UnknownModel as error:
            raise LineFault("model_not_found", error.detail, "body.model") from None
