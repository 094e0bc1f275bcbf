"""Knows which slot holds the keys and values of which beginnings of texts.

A beginning is a chain of whole blocks of tokens; a block's name is a digest of its tokens and of the
name before it, so that equal names mean equal texts from the start. The first block's name also depends on
the tenant's salt: nobody finds out what others have asked, neither by `cached_tokens` nor by the time it
takes. It depends on the adapter as well, with which the same tokens have other keys and values. What a slot
holds stays known when its sequence is gone, until another one overwrites it.
"""

from array import array
from collections.abc import Callable, Container
from collections.abc import Sequence as Items
from hashlib import blake2b
from itertools import product

BLOCK = 16
"""Tokens. Smaller blocks find a little more and cost more to look for."""


def extend(
    names: list[bytes],
    tokens: Items[int],
    salt: str = "",
    public: Container[bytes] = frozenset(),
    adapter: str = "",
) -> None:
    """Name the whole blocks of `tokens` that `names` does not reach yet.

    `public` are names of blocks that all may share; the chain is salted from the first other block on.
    `adapter` is what the tokens are run with.
    """
    while (start := len(names) * BLOCK) + BLOCK <= len(tokens):
        block = array("q", tokens[start : start + BLOCK]).tobytes()
        before = names[-1] if names else _root(adapter)
        name = _digest(before + block)
        if (not names or before in public) and name not in public:
            name = _digest(before + block, salt.encode())
        names.append(name)


def public_names(beginnings: Items[Items[int]], adapters: Items[str] = ("",)) -> frozenset[bytes]:
    """The names of all whole blocks of these beginnings, without a salt, with each of the adapters."""
    found = set[bytes]()
    for adapter, tokens in product(adapters, beginnings):
        before = _root(adapter)
        for start in range(0, len(tokens) - BLOCK + 1, BLOCK):
            before = _digest(before + array("q", tokens[start : start + BLOCK]).tobytes())
            found.add(before)
    return frozenset(found)


def _root(adapter: str) -> bytes:
    """What a chain of blocks begins behind."""
    return _digest(adapter.encode()) if adapter else b""


def _digest(data: bytes, salt: bytes = b"") -> bytes:
    return blake2b(data, digest_size=16, key=salt, person=b"truthgpt").digest()


class Prefixes:
    """An index over `slots` slots. All its lists are bounded by what the slots can hold."""

    def __init__(self, slots: int) -> None:
        self._held: list[list[bytes]] = [[] for _ in range(slots)]
        self._where: dict[bytes, set[int]] = {}

    def find(self, names: Items[bytes], usable: Callable[[int, int], bool]) -> tuple[int, set[int]]:
        """How many leading blocks some slot holds and can give, and which slots do.

        `usable` is asked of a slot and a number of blocks.
        """
        count, slots = 0, set[int]()
        for number, name in enumerate(names, 1):
            found = {slot for slot in self._where.get(name, ()) if usable(slot, number)}
            if found:
                count, slots = number, found
            elif name not in self._where:
                break
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
