"""Tells one version of a model from another, by its catalogue entry and the files it is loaded from."""

import hashlib
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from shared.catalog import ModelSpec

FRESH = 5.0
"""Seconds between two looks at a model's files."""
_SAYS = {"engine", "path", "version", "device", "device_map", "dtype", "options", "python"}
"""What of an entry an answer may depend on."""


def fingerprint(spec: ModelSpec) -> str:
    """Of the entry, and of names, sizes and times of the files in its folder where this machine has it."""
    files = sorted(_files(spec.path)) if spec.path is not None else []
    entry = spec.model_dump(mode="json", include=_SAYS)
    return hashlib.sha256(msgspec.json.encode([entry, files], order="sorted")).hexdigest()


def _files(folder: Path) -> list[tuple[str, int, int]]:
    found = []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.is_file():
                    seen = entry.stat()
                    found.append((entry.name, seen.st_size, seen.st_mtime_ns))
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
