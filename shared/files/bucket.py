"""A bucket of an S3-compatible store as a file storage, by obstore. It is loaded where a setting names one.

obstore waits in native code, so in the API it must be called beside the event loop. Each call is one
request, or one part of an upload, with the timeouts below; a file is read in ranges, for a timeout counts to
the end of a body.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import Any

import obstore
from obstore.exceptions import BaseError, NotFoundError
from obstore.store import S3Store

from shared.files.storage import FileGone, StorageUnavailable, Stored

CONNECT_SECONDS = 5
CALL_SECONDS = 30
RETRIES = 3
RETRY_SECONDS = 60
"""From the first try of a call on: what comes later is an error."""
PART = 8 * 1024 * 1024
"""Bytes of one part of an upload; what is smaller goes in one request."""


class Bucket:
    """The bucket of `url` (`s3://bucket/prefix`). Keys, region and endpoint are in `AWS_*` variables."""

    def __init__(self, url: str) -> None:
        self._store = S3Store.from_url(
            url,
            client_options={
                # With options of ours obstore does not look for this one in the environment.
                "allow_http": os.environ.get("AWS_ALLOW_HTTP", "").lower() == "true",
                "connect_timeout": timedelta(seconds=CONNECT_SECONDS),
                "timeout": timedelta(seconds=CALL_SECONDS),
            },
            retry_config={
                "max_retries": RETRIES,
                "retry_timeout": timedelta(seconds=RETRY_SECONDS),
            },
        )

    def create(self, name: str) -> "BucketWriter":
        with _explained():
            return BucketWriter(
                obstore.open_writer(self._store, name, buffer_size=PART, max_concurrency=2)
            )

    def read(self, name: str, start: int, end: int) -> bytes:
        try:
            with _explained():
                return bytes(obstore.get_range(self._store, name, start=start, end=end))
        except FileNotFoundError:
            raise FileGone(f"The content of {name.rpartition('/')[2]} is gone.") from None

    def delete(self, name: str) -> None:
        with _explained(), suppress(FileNotFoundError):
            obstore.delete(self._store, name)

    def listing(self, prefix: str) -> Iterator[Stored]:
        with _explained():
            for page in obstore.list(self._store, prefix):
                for found in page:
                    yield Stored(
                        str(found["path"]), int(found["size"]), found["last_modified"].timestamp()
                    )

    def clear_unfinished(self, seconds: float) -> None:
        """Nothing: a rule of the bucket ends uploads that were begun and left (docs/batches.md)."""


class BucketWriter:
    """An upload. S3 shows an object once all of it is there."""

    def __init__(self, upload: Any) -> None:
        self._upload = upload

    def write(self, data: bytes) -> None:
        with _explained():
            self._upload.write(data)

    def publish(self) -> None:
        with _explained():
            self._upload.close()
        self._upload = None

    def discard(self) -> None:
        self._upload = None


@contextmanager
def _explained() -> Iterator[None]:
    """Raises `StorageUnavailable` for what the store refuses, `FileNotFoundError` for what is not there."""
    try:
        yield
    except NotFoundError as error:
        raise FileNotFoundError from error
    except (BaseError, OSError) as error:
        if isinstance(error, FileNotFoundError):
            raise
        # What it says names endpoint, bucket and request; that is for the log alone.
        raise StorageUnavailable("The file storage does not answer. Try again.") from error
