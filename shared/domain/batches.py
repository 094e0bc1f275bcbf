"""Batches: a file of requests that are worked on when there is room, and what is known of their progress."""

import hashlib
import os
import re
import time
from enum import StrEnum
from typing import Any

import msgspec

BATCH_ID = re.compile(r"batch_[0-9a-f]{32}")
WINDOW_SECONDS = 24 * 3600
"""`completion_window`, of which there is one."""
MAX_LINES = 50_000
MAX_INPUT_BYTES = 200 * 1024 * 1024
MAX_EMBEDDING_INPUTS = 50_000
MAX_CUSTOM_ID = 512


class BatchStatus(StrEnum):
    """OpenAI's, in the order in which a batch passes through them."""

    VALIDATING = "validating"
    FAILED = "failed"
    IN_PROGRESS = "in_progress"
    CANCELLING = "cancelling"
    FINALIZING = "finalizing"
    COMPLETED = "completed"
    EXPIRED = "expired"
    CANCELLED = "cancelled"


ENDED = frozenset(
    {BatchStatus.FAILED, BatchStatus.COMPLETED, BatchStatus.EXPIRED, BatchStatus.CANCELLED}
)


class Batch(msgspec.Struct, frozen=True):
    """A batch as it is stored. Times are in seconds since 1970; 0: not yet.

    `ending` is how it will end once it is finalized. `line` and `offset` are where in its input the next job
    is made: lines from 0, bytes; `part_at` is when the last part of the output was stored. `broken` counts
    the steps that broke since the last one that did not. `metadata` and `errors` are JSON. `max_queued` and
    `max_bytes` are those of the key that made it; -1: the server's own.
    """

    id: str
    tenant: str
    key_id: str
    endpoint: str
    input_file: str
    created: int
    expires: int
    input_bytes: int = 0
    status: BatchStatus = BatchStatus.VALIDATING
    ending: str = ""
    metadata: str = "{}"
    errors: str = ""
    output_seconds: int = 0
    max_queued: int = -1
    max_bytes: int = -1
    total: int = 0
    done: int = 0
    bad: int = 0
    line: int = 0
    offset: int = 0
    part_at: int = 0
    broken: int = 0
    output_file: str = ""
    error_file: str = ""
    in_progress_at: int = 0
    finalizing_at: int = 0
    completed_at: int = 0
    failed_at: int = 0
    expired_at: int = 0
    cancelling_at: int = 0
    cancelled_at: int = 0

    @property
    def ended(self) -> bool:
        return self.status in ENDED

    def job_id(self, line: int) -> str:
        """The id of a line's job: the same whenever it is asked, so that no line has two."""
        digest = hashlib.sha256(f"{self.id} {line}".encode()).hexdigest()
        return f"job_{self.created * 1000:012x}{digest[:20]}"

    def file_id(self, kind: str) -> str:
        """The id of the output file, or of the error file."""
        digest = hashlib.sha256(f"{self.id} {kind}".encode()).hexdigest()
        return f"file-{self.created * 1000:012x}{digest[:20]}"

    @property
    def parts(self) -> str:
        """The folder of its parts in the storage."""
        return f"parts/{self.id}"


def new_batch_id() -> str:
    """`batch_` + 48 bits of time (ms) + 80 random bits in hex: ids sort by age."""
    return f"batch_{int(time.time() * 1000):012x}{os.urandom(10).hex()}"


def batch_of(fields: dict[str, str]) -> Batch:
    """A batch of its stored fields."""
    return msgspec.convert(fields, Batch, strict=False)


def fields_of(batch: Batch) -> dict[str, Any]:
    """A batch's fields as they are stored; what is as it was from the beginning is left out."""
    named = {field.name: getattr(batch, field.name) for field in msgspec.structs.fields(batch)}
    return {name: value for name, value in named.items() if value not in ("", 0)}
