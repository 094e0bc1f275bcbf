"""Files of tenants: what is known of each beside its content."""

import os
import re
import time
from typing import Literal

import msgspec

FILE_ID = re.compile(r"file-[0-9a-f]{32}")
Purpose = Literal[
    "assistants", "batch", "batch_output", "evals", "fine-tune", "user_data", "vision"
]
MAX_NAME = 255
"""Characters of a file's name."""


class File(msgspec.Struct, frozen=True):
    """A file of a tenant. Times are in seconds since 1970."""

    id: str
    tenant: str
    purpose: str
    filename: str
    bytes: int
    created: int
    expires: int

    @property
    def place(self) -> str:
        """The name under which the storage keeps the file's bytes."""
        return place_of(self.id)


def new_file_id() -> str:
    """`file-` + 48 bits of time (ms) + 80 random bits in hex: ids sort by age and are never reused."""
    return f"file-{int(time.time() * 1000):012x}{os.urandom(10).hex()}"


def place_of(file_id: str) -> str:
    """The name of a file's content in the storage."""
    return f"files/{file_id}"
