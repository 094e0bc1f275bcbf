"""A part of a batch's output: the lines of one step, stored before the step is written down.

A part is named by the fence of the claim that wrote it, of which there is one; a part that no step names was
written by somebody who lost the batch, and is removed with the others when the batch has ended.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from api.batches.answers import AnswerLine
from shared.domain.batches import Batch
from shared.files import Storage, chunks

KINDS = ("output", "error")


class PartName(NamedTuple):
    """The name of a part that a step stored: the fence, and how many bytes there are of each kind."""

    fence: int
    output: int
    error: int

    def __str__(self) -> str:
        return f"{self.fence} {self.output} {self.error}"

    @classmethod
    def parse(cls, name: str) -> "PartName":
        fence, output, error = map(int, name.split(" "))
        return cls(fence, output, error)

    def size(self, kind: str) -> int:
        return self.output if kind == "output" else self.error


def store_part(
    storage: Storage, batch: Batch, fence: int, answers: Sequence[AnswerLine]
) -> PartName:
    """Store lines. Raises `StorageUnavailable`."""
    sizes = []
    for kind in KINDS:
        data = b"".join(line.data for line in answers if line.good == (kind == "output"))
        sizes.append(len(data))
        if data:
            writer = storage.create(_place(batch, fence, kind))
            try:
                writer.write(data)
                writer.publish()
            except BaseException:
                writer.discard()
                raise
    return PartName(fence, *sizes)


def contents(
    storage: Storage, batch: Batch, kind: str, parts: Sequence[PartName]
) -> Iterator[bytes]:
    """The lines of one kind in all parts, in pieces. Raises as `Storage.read`."""
    for part in parts:
        yield from chunks(storage, _place(batch, part.fence, kind), 0, part.size(kind))


def remove_parts(storage: Storage, batch: Batch) -> None:
    """Remove all parts, named or not. Raises `StorageUnavailable`."""
    for found in list(storage.listing(batch.parts)):
        storage.delete(found.name)


def _place(batch: Batch, fence: int, kind: str) -> str:
    return f"{batch.parts}/{fence}.{kind}"
