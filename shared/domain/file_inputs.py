"""References to files in a job's input: `{"image": {"file": "file-…"}}`, where an engine takes base64."""

from collections.abc import Iterator, Mapping
from typing import Any

ENGINES = frozenset({"pipeline"})
"""Whose inputs may be files."""
MAX_BYTES = 64 * 1024 * 1024
"""Of one such file: its job holds all of it in memory."""


def references(content: Any) -> Iterator[tuple[str, str]]:
    """The members of an input that are references, each with the id of its file."""
    for name, value in content.items() if isinstance(content, Mapping) else ():
        if isinstance(value, Mapping) and set(value) == {"file"} and isinstance(value["file"], str):
            yield name, value["file"]
