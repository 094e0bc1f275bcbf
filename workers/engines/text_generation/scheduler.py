"""Which tokens of which sequences go into the next step. Pure planning; no torch."""

from collections import deque
from collections.abc import Sequence as Items

from workers.engines.text_generation.sequence import NO_SLOT, Chunk, Sequence

SMALLEST_CHUNK = 16
"""Tokens of prefill that every step can take, however many sequences decode."""


class Scheduler:
    """First come, first served: every decode runs in every step, prefill fills up the token budget.

    A long prompt is taken in chunks, so that it slows the texts beside it by at most a budget's worth
    of work a step. `plan` changes nothing; `commit` does, once the step has succeeded.
    """

    def __init__(self, slots: int, budget: int) -> None:
        self.slots = slots
        self.budget = max(budget, slots + SMALLEST_CHUNK)
        self._free = list(range(slots))
        self._waiting: deque[Sequence] = deque()
        self._running: list[Sequence] = []

    def __len__(self) -> int:
        return len(self._waiting) + len(self._running)

    def add(self, sequence: Sequence) -> None:
        self._waiting.append(sequence)

    def remove(self, sequence: Sequence) -> int:
        """Let a sequence go; returns the slot that is free again, NO_SLOT when it had none."""
        slot, sequence.slot = sequence.slot, NO_SLOT
        if slot == NO_SLOT:
            self._waiting.remove(sequence)
        else:
            self._running.remove(sequence)
            self._free.append(slot)
            self._free.sort()
        return slot

    def plan(self) -> list[Chunk]:
        """The next step: decodes first, then chunks of prompts, oldest first.

        Newcomers are given the lowest free slots, so that those in use stay close together.
        """
        prompts = [s for s in self._running if len(s.tokens) - s.cached > 1]
        chunks = [
            Chunk(s, s.slot, s.cached, 1) for s in self._running if len(s.tokens) - s.cached == 1
        ]
        newcomers = zip(self._waiting, self._free, strict=False)
        places = [(s, s.slot) for s in prompts] + list(newcomers)
        left = self.budget - len(chunks)
        for sequence, slot in places:
            if left <= 0:
                break
            length = min(left, len(sequence.tokens) - sequence.cached, sequence.longest_chunk)
            chunks.append(Chunk(sequence, slot, sequence.cached, length))
            left -= length
        return chunks

    def commit(self, chunks: Items[Chunk]) -> None:
        """The step has been run: newcomers own their slots, and what was run is cached."""
        for chunk in chunks:
            sequence = chunk.sequence
            if sequence.slot == NO_SLOT:
                self._waiting.remove(sequence)
                self._free.remove(chunk.slot)
                self._running.append(sequence)
                sequence.slot = chunk.slot
            sequence.cached = chunk.end
            sequence.largest_batch = max(sequence.largest_batch, len(chunks))
