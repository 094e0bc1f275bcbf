"""Plans which tokens of which sequences go into the next step, and in which slots. No torch."""

from collections import deque
from collections.abc import Mapping
from collections.abc import Sequence as Items
from functools import partial

from workers.engines.text_generation.chunk import Chunk
from workers.engines.text_generation.prefixes import BLOCK, Prefixes, extend
from workers.engines.text_generation.speculation.drafter import Drafter
from workers.engines.texts.sequence import NO_SLOT, Sequence

SMALLEST_CHUNK = 16
"""Tokens of prefill that every step can take, however many sequences decode."""
NONE: Mapping[str, int] = {}


LONG = "\0long"
"""Sets beginnings of long texts apart from those of others."""


class Scheduler:
    """First come, first served: every decode runs in every step, prefill fills up the token budget.

    A long prompt is taken in chunks, so that it slows the texts beside it by at most a budget's worth
    of work a step. With `reuse` a newcomer starts behind the longest beginning of its text that some
    slot holds: one of its own tenant's, or one of the `public` blocks. With `copies` the runner can begin
    where another slot has got to: then the prompt of a job with several texts is computed for one of them,
    and the others run its last token alone, whose logits each of them needs. `plan` changes nothing; `begin`
    gives up what the step will overwrite; `commit` moves on, once the step has succeeded. A budget below
    the number of decodes leaves the youngest out. A slot whose text has gone on by more than `rewind` tokens
    has lost some of what its beginning needs. With `as_made` a text that an earlier attempt began is read
    as it was made: its prompt, then a token a step. Texts of more than `window` tokens are long ones, with
    other positions: a prompt that is longer is read so from its first token on; a text that grows longer goes
    on so, or with `restarts` is read again from its first token. What the budget has left goes into drafts of
    a `drafter`.
    """

    def __init__(
        self,
        slots: int,
        budget: int,
        *,
        reuse: bool = False,
        public: frozenset[bytes] = frozenset(),
        drafter: Drafter | None = None,
        copies: bool = False,
        rewind: int | None = None,
        as_made: bool = False,
        window: int | None = None,
        restarts: bool = False,
    ) -> None:
        self.slots = slots
        self.budget = max(budget, slots + SMALLEST_CHUNK)
        self._reuse = reuse
        self._public = public
        self._drafter = drafter
        self._copies = copies
        self._as_made = as_made
        self._prefixes = Prefixes(slots)
        self._rewind = rewind
        self._window = window
        self._restarts = restarts
        self._written = [0] * slots
        """How many tokens of a text were written into each slot, by steps that have failed as well."""
        self._free = list(range(slots))
        """With reuse, least recently used first; else in order, so that those in use stay close."""
        self._waiting: deque[Sequence] = deque()
        self._running: list[Sequence] = []

    def __len__(self) -> int:
        return len(self._waiting) + len(self._running)

    def add(self, sequence: Sequence) -> None:
        sequence.long = self._long(sequence)
        if self._reuse:
            self._name_blocks(sequence)
        self._waiting.append(sequence)

    def remove(self, sequence: Sequence, *, forget: bool = False) -> int:
        """Let a sequence go; returns the slot that is free again, NO_SLOT when it had none.

        `forget`: what the slot holds must not be used again.
        """
        if self._drafter is not None:
            self._drafter.forget(sequence)
        slot, sequence.slot = sequence.slot, NO_SLOT
        if slot == NO_SLOT:
            self._waiting.remove(sequence)
            return slot
        self._running.remove(sequence)
        if forget:
            self._prefixes.cut(slot, 0)
        self._free.insert(0 if forget else len(self._free), slot)
        if not self._reuse:
            self._free.sort()
        return slot

    def plan(self) -> list[Chunk]:
        """The next step: decodes first, then chunks of prompts, oldest first."""
        starts = [0 if s.long != self._long(s) else s.cached for s in self._running]
        chunks = [
            self._chunk(sequence, sequence.slot, start, 1)
            for sequence, start in zip(self._running, starts, strict=True)
            if len(sequence.tokens) - start == 1
        ][: self.budget]
        left = self.budget - len(chunks)
        coming: set[bytes] = set()
        for sequence, start in zip(self._running, starts, strict=True):
            if left > 0 and len(sequence.tokens) - start > 1:
                chunks.append(self._chunk(sequence, sequence.slot, start, left))
                coming.update(sequence.blocks[: chunks[-1].end // BLOCK])
                left -= chunks[-1].length
        chunks += self._newcomers(left, coming)
        return chunks if self._drafter is None else self._drafter.extend(chunks, self.budget)

    def begin(self, chunks: Items[Chunk]) -> None:
        """The step is about to be run, and may fail half-way: newcomers overwrite what slots held."""
        for chunk in chunks:
            written = self._written[chunk.slot]
            if chunk.sequence.slot == NO_SLOT:
                kept = chunk.start // BLOCK if chunk.source == chunk.slot else 0
                self._prefixes.cut(chunk.slot, kept)
                written = 0 if chunk.source == NO_SLOT else self._written[chunk.source]
            elif chunk.long != chunk.sequence.long:
                self._prefixes.cut(chunk.slot, 0)
            self._written[chunk.slot] = max(written, chunk.end)

    def commit(self, chunks: Items[Chunk], accepted: Mapping[str, int] = NONE) -> None:
        """The step has been run: newcomers own their slots, and what was run is cached.

        Of a draft those tokens are that were right, `accepted` by the sequence's id.
        """
        for planned in chunks:
            sequence = planned.sequence
            right = accepted.get(sequence.id, 0)
            chunk = planned.drafting(planned.draft[:right])
            if self._drafter is not None and planned.samples:
                self._drafter.judge(sequence, len(planned.draft), right)
            if sequence.slot == NO_SLOT:
                self._settle(chunk)
            if chunk.long != sequence.long:
                sequence.long = chunk.long
                sequence.blocks.clear()
            sequence.cached = chunk.end
            sequence.largest_batch = max(sequence.largest_batch, len(chunks))
            if self._reuse and chunk.end // BLOCK > self._prefixes.count(chunk.slot):
                self._name_blocks(sequence)
                self._prefixes.hold(chunk.slot, sequence.blocks[: chunk.end // BLOCK])

    def _name_blocks(self, sequence: Sequence) -> None:
        root = f"{sequence.adapter}{LONG}" if sequence.long else sequence.adapter
        extend(sequence.blocks, sequence.tokens, sequence.salt, self._public, root)

    def _newcomers(self, left: int, coming: set[bytes]) -> list[Chunk]:
        """Chunks of those who wait. `coming` are the blocks that this step computes; it is extended.

        Whoever begins with one of them waits for it, a slot being kept: the next step copies it.
        """
        chunks: list[Chunk] = []
        free, taken, begun = list(self._free), set[int](), set[str]()
        for sequence, _ in zip(self._waiting, self._free, strict=False):
            if left <= 0:
                break
            if self._copies and sequence.siblings:
                shared = sequence.shared_length
                lead = _lead(sequence, shared)
                computed = lead is not None and lead.cached >= shared
                alike = lead is not None and lead.long == sequence.long
                if lead is not None and computed and alike and self._keeps(lead.slot, shared):
                    # Behind the prompt, which a text of the same job has computed.
                    chunk = self._chunk(sequence, free[0], shared, left, lead.slot)
                    chunks.append(chunk)
                    taken.add(free.pop(0))
                    left -= chunk.length
                    continue
                if (lead is not None and not computed) or sequence.job in begun:
                    continue
            names = sequence.blocks[: sequence.wanted // BLOCK]
            count, holders = self._prefixes.find(names, partial(self._gives, taken))
            if count < len(names) and names[count] in coming:
                continue
            slot, source = self._place(free, count, holders)
            chunk = self._chunk(sequence, slot, count * BLOCK, left, source)
            chunks.append(chunk)
            begun.add(sequence.job)
            free.remove(slot)
            taken.add(slot)
            coming.update(sequence.blocks[: chunk.end // BLOCK])
            left -= chunk.length
        return chunks

    def _gives(self, taken: set[int], slot: int, blocks: int) -> bool:
        """Whether a slot that holds these first blocks of a text can give them to another one."""
        return slot not in taken and self._keeps(slot, blocks * BLOCK)

    def _keeps(self, slot: int, tokens: int) -> bool:
        """Whether a slot still has all that the first `tokens` of its text need to be gone on with."""
        return self._rewind is None or self._written[slot] - tokens <= self._rewind

    def _place(self, free: list[int], count: int, holders: set[int]) -> tuple[int, int]:
        """A free slot for a newcomer, and the slot with the first `count` blocks of its text.

        The same slot where that loses nothing else, or no more than the slot whose turn it is.
        """
        for slot in free:
            if slot in holders and self._prefixes.count(slot) == count:
                return slot, slot
        if free[0] in holders:
            return free[0], free[0]
        return free[0], min(holders, default=NO_SLOT)

    def _settle(self, chunk: Chunk) -> None:
        self._waiting.remove(chunk.sequence)
        self._free.remove(chunk.slot)
        self._running.append(chunk.sequence)
        chunk.sequence.slot = chunk.slot
        chunk.sequence.reused = chunk.start
        if chunk.source in self._free:
            self._free.remove(chunk.source)
            self._free.append(chunk.source)

    def _chunk(
        self, sequence: Sequence, slot: int, start: int, left: int, source: int = NO_SLOT
    ) -> Chunk:
        long, end = self._long(sequence), len(sequence.tokens)
        if self._restarts and self._window is not None and not long:
            # What is scored of a text from before it grew long is read as it was then.
            end = min(end, self._window)
        length = min(left, end - start, sequence.longest_chunk)
        if self._as_made:
            length = min(length, max(1, sequence.prompt_length - start))
        return Chunk(sequence, slot, start, length, source, long=long)

    def _long(self, sequence: Sequence) -> bool:
        """Whether the sequence's next chunk is read as a long text's from its first token on."""
        if self._window is None:
            return False
        if self._restarts:
            return len(sequence.tokens) > self._window and sequence.wanted >= self._window
        return sequence.prompt_length > self._window


def _lead(sequence: Sequence, length: int) -> Sequence | None:
    """Of its job's texts the one in a slot that has computed most of their first `length` tokens."""
    running = [one for one in sequence.siblings if one.slot != NO_SLOT]
    return max(running, key=lambda one: min(one.cached, length), default=None)
