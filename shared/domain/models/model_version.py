"""Tells one version of a model from another, by its catalogue entry and the files it is loaded from."""

import hashlib
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from shared.domain.models.catalog import ModelSpec

FRESH = 5.0
"""Seconds between two looks at a model's files."""
DEEPEST = 4
"""Folders within folders. No format of models goes deeper, and links may lead in circles."""
MOST_FILES = 10_000
_SAYS = {"engine", "path", "version", "device", "device_map", "dtype", "options", "python"}
"""What of an entry an answer may depend on."""


def fingerprint(spec: ModelSpec) -> str:
    """Of the entry, and of names, sizes and times of all files in its folders where this machine has them."""
    files = sorted(_files(spec.path)) if spec.path is not None else []
    parts: list[Any] = [spec.model_dump(mode="json", include=_SAYS), files]
    if spec.adapter is not None:
        # A part of its own: the versions of other models stay as they were before there were adapters.
        parts.append([str(spec.adapter), sorted(_files(spec.adapter))])
    return hashlib.sha256(msgspec.json.encode(parts, order="sorted")).hexdigest()


def _files(folder: Path, depth: int = 0) -> list[tuple[str, int, int, int]]:
    """Name, size, and when contents and inode last changed, of every file below a folder.

    A copy may carry the time of its original, so the inode's time counts as well.
    """
    found = []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.is_file():
                    seen = entry.stat()
                    found.append((entry.name, seen.st_size, seen.st_mtime_ns, seen.st_ctime_ns))
                elif entry.is_dir() and depth < DEEPEST and not entry.name.startswith("."):
                    for name, size, changed, moved in _files(Path(entry.path), depth + 1):
                        found.append((f"{entry.name}/{name}", size, changed, moved))
                if len(found) > MOST_FILES:
                    break
    except OSError:
        # Only the workers need the files.
        return []
    return found


class Versions:
    """The fingerprints of models, each at most `FRESH` seconds old."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._known: dict[str, tuple[float, str]] = {}
        """By name; bounded by the catalogue."""

    def of(self, spec: ModelSpec) -> str:
        """The fingerprint of a model of the catalogue."""
        now = self._clock()
        with self._lock:
            seen, version = self._known.get(spec.name, (0.0, ""))
        if version and now - seen < FRESH:
            return version
        version = fingerprint(spec)
        with self._lock:
            self._known[spec.name] = (now, version)
        return version
