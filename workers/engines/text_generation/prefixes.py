"""Which slot holds the keys and values of which beginnings of texts.

A beginning is a chain of whole blocks of tokens; a block's name is a digest of its tokens and of the
name before it, so that equal names mean equal texts from the start. What a slot holds stays known when
its sequence is gone, until another one overwrites it.
"""

from array import array
from collections.abc import Sequence as Items
from hashlib import blake2b

BLOCK = 16
"""Tokens. Smaller blocks find a little more and cost more to look for."""


def extend(names: list[bytes], tokens: Items[int]) -> None:
    """Name the whole blocks of `tokens` that `names` does not reach yet."""
    while (start := len(names) * BLOCK) + BLOCK <= len(tokens):
        block = array("q", tokens[start : start + BLOCK]).tobytes()
        before = names[-1] if names else b""
        names.append(blake2b(before + block, digest_size=16, person=b"truthgpt").digest())


class Prefixes:
    """An index over `slots` slots. All its lists are bounded by what the slots can hold."""

    def __init__(self, slots: int) -> None:
        self._held: list[list[bytes]] = [[] for _ in range(slots)]
        self._where: dict[bytes, set[int]] = {}

    def find(self, names: Items[bytes], without: set[int]) -> tuple[int, set[int]]:
        """How many leading blocks some slot holds, and which slots do; `without` are not asked."""
        count, slots = 0, set[int]()
        for name in names:
            found = self._where.get(name, set()) - without
            if not found:
                break
            count, slots = count + 1, found
        return count, slots

    def hold(self, slot: int, names: Items[bytes]) -> None:
        """The slot holds these blocks now; it has held the first of them already."""
        held = self._held[slot]
        for name in names[len(held) :]:
            held.append(name)
            self._where.setdefault(name, set()).add(slot)

    def cut(self, slot: int, count: int) -> None:
        """What the slot holds beyond `count` blocks is about to be overwritten."""
        held = self._held[slot]
        for name in held[count:]:
            slots = self._where[name]
            slots.discard(slot)
            if not slots:
                del self._where[name]
        del held[count:]

    def count(self, slot: int) -> int:
        """How many blocks the slot holds."""
        return len(self._held[slot])
