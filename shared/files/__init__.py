"""Where files lie: a directory, or a bucket of an S3-compatible store, behind one small interface."""

from shared.files.opening import open_storage, parse_storage
from shared.files.storage import (
    CHUNK,
    FileGone,
    FileWriter,
    Storage,
    StorageUnavailable,
    Stored,
    chunks,
)

__all__ = [
    "CHUNK",
    "FileGone",
    "FileWriter",
    "Storage",
    "StorageUnavailable",
    "Stored",
    "chunks",
    "open_storage",
    "parse_storage",
]
