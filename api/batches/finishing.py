"""The end of a batch: its parts become an output file and an error file of its tenant."""

import time
from collections.abc import Callable, Sequence

from api.batches.part import KINDS, PartName, contents
from shared.domain.batches import Batch
from shared.domain.files import File, place_of
from shared.files import Storage
from shared.store.files import Files, Room

UNBOUNDED = Room(2**53, 2**31, 2**53)
"""What was worked out is kept, whatever else its tenant has stored: a batch is bounded when it is made."""


class Finisher:
    """`retention`: seconds for which the files are kept where the batch says nothing."""

    def __init__(self, files: Files, storage: Storage, retention: int) -> None:
        self._files = files
        self._storage = storage
        self._retention = retention

    def files(
        self, batch: Batch, parts: Sequence[str], alive: Callable[[], None]
    ) -> dict[str, str]:
        """Store the files, once however often it is asked: their ids by the fields that name them.

        Raises `StorageUnavailable`.
        """
        known = [PartName.parse(name) for name in parts]
        named = {}
        for kind in KINDS:
            if size := sum(part.size(kind) for part in known):
                named[f"{kind}_file"] = self._file(batch, kind, known, size, alive)
        return named

    def _file(
        self,
        batch: Batch,
        kind: str,
        parts: Sequence[PartName],
        size: int,
        alive: Callable[[], None],
    ) -> str:
        now, file_id = int(time.time()), batch.file_id(kind)
        writer = self._storage.create(place_of(file_id))
        try:
            for piece in contents(self._storage, batch, kind, parts):
                writer.write(piece)
                alive()
            writer.publish()
        except BaseException:
            writer.discard()
            raise
        self._files.create(
            File(
                id=file_id,
                tenant=batch.tenant,
                purpose="batch_output",
                filename=f"{batch.id}_{kind}.jsonl",
                bytes=size,
                created=now,
                expires=now + (batch.output_seconds or self._retention),
            ),
            UNBOUNDED,
        )
        return file_id
