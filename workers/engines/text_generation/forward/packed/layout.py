"""Where each token of a packed row belongs, and what it may look at."""

from collections.abc import Sequence as Items
from dataclasses import dataclass, field

import torch

from workers.engines.text_generation.chunk import Chunk
from workers.engines.text_generation.forward.packed.reach import Reach
from workers.engines.text_generation.transfer import upload

DENSE = 0.5
"""The share of slots in use from which idle ones are computed along rather than copied around."""


@dataclass(frozen=True, slots=True)
class Window:
    """The slots that the single-token rows attend over: a view where possible, a copy where not.

    `rows` says where each row lies inside, None when they fill it in order. `positions` [slots inside] are
    those of the tokens, 0 for a slot that is not in this step: it looks at its first place, for a row must
    look somewhere.
    """

    slots: slice | torch.Tensor
    size: int
    rows: torch.Tensor | None
    longest: int
    positions: torch.Tensor


@dataclass(frozen=True, slots=True)
class Layout:
    """Where each of a row's T tokens belongs. The first `singles` attend together, the rest in chunks.

    `slots` and `positions` are [T]; `chunks` are (slot, start, length, offset in the row). Masks and places
    are made by the first layer that wants them, and kept for the others.
    """

    slots: torch.Tensor
    positions: torch.Tensor
    singles: int
    window: Window | None
    chunks: tuple[tuple[int, int, int, int], ...]
    masks: dict[tuple[Reach, *tuple[int, ...]], torch.Tensor] = field(default_factory=dict)
    _places: dict[int, torch.Tensor] = field(default_factory=dict)

    def places(self, size: int, length: int) -> torch.Tensor:
        """[T], where the tokens lie in slots that hold `size` of a text's `length` tokens."""
        if size >= length:
            return self.positions
        if size not in self._places:
            self._places[size] = self.positions % size
        return self._places[size]

    def look_back(self, reach: Reach, size: int) -> torch.Tensor:
        """The window's mask for a layer whose slots hold `size` tokens."""
        assert self.window is not None
        key = (reach, size)
        if key not in self.masks:
            self.masks[key] = look_back(self.window.positions, self.window.longest, reach, size)
        return self.masks[key]

    def between(
        self, reach: Reach, asked: range, seen: range, like: torch.Tensor, copies: int = 1
    ) -> torch.Tensor:
        """[copies * asked, seen] positions, of the kind of `like`: to be added to the scores of tokens."""
        key = (reach, asked.start, asked.stop, seen.start, seen.stop, copies)
        if key not in self.masks:
            rows = torch.arange(asked.start, asked.stop, device=like.device)[:, None]
            places = torch.arange(seen.start, seen.stop, device=like.device)
            hidden = (places > rows) | (places < reach.firsts(rows))
            mask = like.new_zeros(hidden.shape).masked_fill_(hidden, float("-inf"))
            self.masks[key] = mask.repeat(copies, 1)
        return self.masks[key]


def together(device: torch.device) -> bool:
    """Whether single tokens attend in one call, all as far back as the longest text goes.

    A GPU wants few calls. On a CPU a call costs less than reading keys and values that nobody needs.
    """
    return device.type != "cpu"


def lay_out(chunks: Items[Chunk], device: torch.device, *, by_place: bool = False) -> Layout:
    """The layout of a row in which the chunks stand in this order, those of one token first.

    Where single tokens attend one by one those of a draft do, too: each is then computed as it would be in
    a step of its own. `by_place`: it is so however they attend.
    """
    slots: list[int] = []
    positions: list[int] = []
    apart: list[tuple[int, int, int, int]] = []
    shortest = 2 if together(device) else 1
    for chunk in chunks:
        if chunk.draft and shortest == 1 and not by_place:
            apart += [(chunk.slot, chunk.start + n, 1, len(slots) + n) for n in range(chunk.length)]
        elif chunk.length >= shortest:
            apart.append((chunk.slot, chunk.start, chunk.length, len(slots)))
        slots += [chunk.slot] * chunk.length
        positions += range(chunk.start, chunk.end)
    singles = sum(chunk.length < shortest for chunk in chunks)
    return Layout(
        slots=upload(slots, torch.long, device),
        positions=upload(positions, torch.long, device),
        singles=singles,
        window=_window(slots[:singles], positions[:singles], device) if singles else None,
        chunks=tuple(apart),
    )


def _window(slots: list[int], positions: list[int], device: torch.device) -> Window:
    first, last, longest = min(slots), max(slots) + 1, max(positions) + 1
    where = upload(positions, torch.long, device)
    if len(slots) < DENSE * (last - first):
        return Window(upload(slots, torch.long, device), len(slots), None, longest, where)
    limits = torch.zeros(last - first, dtype=torch.long, device=device)
    rows = upload(slots, torch.long, device) - first
    limits[rows] = where
    in_order = slots == list(range(first, last))
    return Window(slice(first, last), last - first, None if in_order else rows, longest, limits)


def look_back(positions: torch.Tensor, longest: int, reach: Reach, size: int) -> torch.Tensor:
    """[rows] positions to a mask [rows, 1, 1, places], true where a row may look.

    A slot holds `size` tokens, the last ones that were written; a place holds the token that its number and
    the row's position tell, or one that nobody has written yet and whose position is below 0.
    """
    places = torch.arange(min(longest, size), device=positions.device)
    asked = positions[:, None]
    held = asked - (asked - places) % size
    return ((held >= 0) & (held >= reach.firsts(asked)))[:, None, None]
