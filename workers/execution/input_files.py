"""Puts files in the place of references to them, as base64, before an input goes to the engine host."""

import base64
from typing import Any

import msgspec

from shared.domain.errors import StoreUnavailable
from shared.domain.file_inputs import references
from shared.domain.records import Claim
from shared.files import FileGone, Storage, StorageUnavailable, chunks
from shared.store.files import FileNotFound, Files

_decode = msgspec.json.Decoder().decode
_encode = msgspec.json.Encoder().encode


class InputFiles:
    """Safe to share between threads."""

    def __init__(self, files: Files, storage: Storage) -> None:
        self._files = files
        self._storage = storage

    def filled(self, claim: Claim) -> bytes:
        """The request of a job, with its files. A reference to one that is gone stays: its engine refuses it.

        Raises `StoreUnavailable` where they cannot be read now.
        """
        if b'"file"' not in claim.request:
            return claim.request
        request: dict[str, Any] = _decode(claim.request)
        content = request["content"]
        for name, file_id in list(references(content)):
            try:
                content[name] = self._content(file_id, claim.tenant)
            except (FileNotFound, FileGone):
                # The reference stays, and the engine refuses it by its name.
                continue
            except StorageUnavailable as error:
                raise StoreUnavailable(f"Its file cannot be read: {error.detail}") from error
        return _encode(request)

    def _content(self, file_id: str, tenant: str) -> str:
        file = self._files.get(file_id, tenant)
        data = b"".join(chunks(self._storage, file.place, 0, file.bytes))
        return base64.b64encode(data).decode()
