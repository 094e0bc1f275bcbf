"""Which storage a setting names: a directory, or `s3://bucket/prefix`."""

import importlib.util
import re
from pathlib import Path

from shared.files.directory import Directory
from shared.files.storage import Storage

_BUCKET = re.compile(r"s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/[A-Za-z0-9._-]+)*/?")
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")


def parse_storage(given: str) -> str:
    """The setting as it was given, if it names a storage. Raises `ValueError`."""
    if not _SCHEME.match(given):
        return given
    if not _BUCKET.fullmatch(given):
        raise ValueError("it must be a directory, or a bucket like s3://bucket/prefix")
    if importlib.util.find_spec("obstore") is None:
        raise ValueError(
            "a bucket needs obstore, which is not installed: pip install 'truthgpt-inference[s3]'"
        )
    return given


def open_storage(given: str | None, state_dir: Path) -> Storage:
    """The storage of a setting; none: the folder `files` of the state directory. Nothing is connected yet."""
    if given is not None and given.startswith("s3://"):
        from shared.files.bucket import Bucket

        return Bucket(given)
    return Directory(Path(given).expanduser() if given else state_dir.expanduser() / "files")
