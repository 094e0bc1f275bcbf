"""Reads prompts alone and makes one token of every text in a single pass, states stacked by row.

For architectures whose cache is more than keys and values (convolutions, state spaces, linear attention,
hybrids) or whose attention cannot be packed, as long as transformers' own forward pass takes several rows.
"""

from collections.abc import Iterable
from collections.abc import Sequence as Items
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch

from workers.engines import packed_weights
from workers.engines.row_blocks import fixed_rows, wants_fixed_rows
from workers.engines.text_generation.adapters import Adapters
from workers.engines.text_generation.chunk import Chunk, Row
from workers.engines.text_generation.forward.indexers import indexers
from workers.engines.text_generation.forward.packed import few_rows
from workers.engines.text_generation.forward.reading import empty_state, kept, read, takes
from workers.engines.text_generation.forward.rope import LengthDependence, RotaryByRow
from workers.engines.text_generation.forward.stacked.lean_layers import LeanLayers
from workers.engines.text_generation.forward.stacked.row_attention import RowAttention, RowKeys
from workers.engines.text_generation.forward.stacked.row_indexers import RowIndexers
from workers.engines.text_generation.forward.stacked.states import StateFrame, found_states, leaves
from workers.engines.text_generation.forward.stacked.token_shifts import TokenShifts
from workers.engines.text_generation.transfer import upload
from workers.engines.texts.sequence import Sequence

PROBE = 5
"""Tokens of the text by which a cache is understood."""


@dataclass(frozen=True, slots=True)
class Past:
    """What one sequence has been through. Its states lie in row `row` of `states`, one tensor for each leaf.

    A step makes new tensors for all its rows, so a step that failed has changed nothing. `prompt` is what the
    other texts of its job begin with.
    """

    sequence: Sequence
    length: int
    keys: list[RowKeys]
    states: list[torch.Tensor]
    row: int
    prompt: "Prompt | None" = None


@dataclass(frozen=True, slots=True)
class Prompt:
    """What a prompt alone has left, with the logits of its last token, float32 [vocabulary]."""

    keys: list[RowKeys]
    states: list[torch.Tensor]
    logits: torch.Tensor

    def begin(self, sequence: Sequence) -> Past:
        """Where a text of this prompt begins. Keys that are gone on with are copied by that."""
        keys = [row.shared() for row in self.keys]
        return Past(sequence, sequence.prompt_length, keys, self.states, 0, self)


class StackedRunner:
    """Every text is computed as it would be alone: its prompt in one pass, then token by token.

    A text that an earlier attempt began is made again in the same way, a token a step. `adapters`: those that
    sequences may ask for.
    """

    def __init__(
        self,
        model: Any,
        device: torch.device,
        lengths: LengthDependence | None = None,
        *,
        packs: bool = True,
    ) -> None:
        """`lengths`: what positions do to texts that a slot has room for, if they do anything.

        With `packs` linear layers in half precision run over packed weights on a CPU. Raises `Unstackable`,
        or what a model raises that is run in a way it was not written for.
        """
        self.adapters: Adapters | None = None
        self._model = model
        self._device = device
        self._attention = RowAttention(model, masked=bool(indexers(model)))
        self._indexers = RowIndexers(model, self._attention, self._only)
        self._lean = LeanLayers(model)
        self._shifts = TokenShifts(model)
        self._takes_positions = takes(model, "position_ids")
        self._pasts: dict[int, Past] = {}
        self._before: dict[int, Past | None] = {}
        """What the slots of the last step held before it."""
        self._attention.attach()
        self._indexers.attach()
        few_rows.attach(model, device)
        self._rotary = RotaryByRow(model, lengths.window) if lengths is not None else None
        half = packs and wants_fixed_rows(device, model.dtype)
        try:
            with packed_weights.calls(model) as called:
                self._frame, self.bytes_of_states, self.bytes_per_token = self._understand()
            self._all_packed = half and packed_weights.attach_half(model, model.dtype, called)
        except BaseException:
            self.detach()
            raise

    @property
    def dtype(self) -> torch.dtype:
        """The format of the model's numbers."""
        found: torch.dtype = self._model.dtype
        return found

    def run(self, chunks: Items[Chunk]) -> tuple[list[Row], torch.Tensor]:
        """See `Runner.run`. A prompt is read whole, when its last chunk is due."""
        due = [chunk for chunk in chunks if chunk.end >= chunk.sequence.prompt_length]
        self._before = {chunk.slot: self._pasts.get(chunk.slot) for chunk in due}
        pasts: dict[int, Past] = {}
        found: dict[Row, torch.Tensor] = {}
        for chunk in due:
            past = self._pasts.get(chunk.slot)
            if past is None or past.sequence is not chunk.sequence or past.length > chunk.start:
                past, logits = self._begin(chunk)
                found[Row(chunk.sequence, past.length - 1)] = logits
            pasts[chunk.slot] = past
        while behind := [c for c in due if pasts[c.slot].length < c.end]:
            rows = [pasts[chunk.slot] for chunk in behind]
            logits, states = self._decode(rows)
            for chunk, past, line in zip(behind, rows, logits, strict=True):
                found[Row(chunk.sequence, past.length)] = line
            for row, (chunk, past) in enumerate(zip(behind, rows, strict=True)):
                pasts[chunk.slot] = Past(
                    past.sequence, past.length + 1, past.keys, states, row, past.prompt
                )
        self._pasts |= pasts
        self._part(pasts)
        wanted = [row for chunk in due for row in chunk.rows]
        return wanted, torch.stack([found[row] for row in wanted]) if wanted else torch.empty(0, 0)

    def undo(self, chunks: Items[Chunk]) -> None:
        """See `Runner.undo`. What the step began with is still there."""
        for chunk in chunks:
            past = self._before.get(chunk.slot)
            if past is None:
                self._pasts.pop(chunk.slot, None)
            else:
                self._pasts[chunk.slot] = past

    def release(self, slot: int, *, scrub: bool) -> None:  # noqa: ARG002
        """See `Runner.release`. Nothing is left that the next sequence could meet."""
        self._pasts.pop(slot, None)
        self._before.pop(slot, None)

    def detach(self) -> None:
        """See `Runner.detach`."""
        self._attention.detach()
        self._indexers.detach()
        packed_weights.detach(self._model)
        few_rows.detach(self._model)
        if self._rotary is not None:
            self._rotary.detach()

    def _begin(self, chunk: Chunk) -> tuple[Past, torch.Tensor]:
        """A text's prompt, and its last token's logits: those of another text of its job where it has one."""
        source = self._pasts.get(chunk.source)
        prompt = source.prompt if source is not None else None
        if prompt is None or source is None or source.sequence.job != chunk.sequence.job:
            past, logits = self._prefill(chunk.sequence)
            if not chunk.sequence.siblings:
                return past, logits
            prompt = Prompt(past.keys, past.states, logits)
        return prompt.begin(chunk.sequence), prompt.logits

    def _prefill(self, sequence: Sequence) -> tuple[Past, torch.Tensor]:
        """A text's prompt alone, and its last token's logits, float32 [vocabulary]."""
        ids = torch.tensor([sequence.tokens[: sequence.prompt_length]], device=self._device)
        keys = self._attention.read()
        names = [sequence.adapter] * sequence.prompt_length
        with self._lean.reading(sequence.prompt_length), self._adapted(names):
            logits, state = read(self._model, empty_state(self._model), ids, 0, 1)
        states = self._frame.states_of(state)
        return Past(sequence, sequence.prompt_length, keys, states, 0), logits[0, 0]

    def _decode(self, rows: Items[Past]) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """The next token of each row: logits, float32 [rows, vocabulary], and the rows' new states."""
        positions = [past.length for past in rows]
        tokens = [[past.sequence.tokens[past.length]] for past in rows]
        adapters = [past.sequence.adapter for past in rows]
        at = upload([[position] for position in positions], torch.long, self._device)
        self._attention.decode([past.keys for past in rows], positions)
        self._frame.put(self._gathered(rows), max(positions))
        try:
            with (
                self._fixed_rows(adapters),
                self._lean.decoding(),
                self._shifts.by_row(self._frame.caches),
                self._adapted(adapters),
            ):
                output = self._model(
                    input_ids=upload(tokens, torch.long, self._device),
                    use_cache=True,
                    **({"position_ids": at} if self._takes_positions else {}),
                    **kept(self._model, 1),
                    **self._frame.caches,
                )
        finally:
            states = self._frame.take()
        return output.logits[:, -1].float(), states

    def _fixed_rows(self, names: Items[str]) -> AbstractContextManager[None]:
        """A pass in which no bit of a row depends on how many there are, where that can be seen."""
        if self._all_packed and not any(names):
            return nullcontext()
        return fixed_rows(self._device, self._model.dtype)

    def _adapted(self, names: Items[str]) -> AbstractContextManager[None]:
        """A pass whose tokens have these adapters."""
        return nullcontext() if self.adapters is None else self.adapters.of(names)

    def _only(self, row: int) -> AbstractContextManager[None]:
        """A part of the pass that has one of its rows."""
        return nullcontext() if self.adapters is None else self.adapters.only(row)

    def _gathered(self, rows: Items[Past]) -> list[torch.Tensor]:
        """The rows' states side by side, in memory of their own: a model may write where it reads."""
        first = rows[0].states
        together = all(past.states is first for past in rows)
        places = [past.row for past in rows]
        gathered: list[torch.Tensor] = []
        for number, leaf in enumerate(self._frame.leaves):
            if together and places == list(range(first[number].shape[leaf.rows])):
                gathered.append(first[number].clone())
            else:
                parts = [past.states[number].narrow(leaf.rows, past.row, 1) for past in rows]
                gathered.append(torch.cat(parts, leaf.rows))
        return gathered

    def _part(self, moved: Iterable[int]) -> None:
        """Who was not in the step takes its states along, so that those of the others can go."""
        left = [slot for slot in self._pasts if slot not in moved]
        for slot in left:
            past = self._pasts[slot]
            own = [
                tensor.narrow(leaf.rows, past.row, 1).clone()
                for tensor, leaf in zip(past.states, self._frame.leaves, strict=True)
                if tensor.shape[leaf.rows] > 1
            ]
            if own:
                self._pasts[slot] = Past(past.sequence, past.length, past.keys, own, 0, past.prompt)

    def _understand(self) -> tuple[StateFrame, int, int]:
        """The frame of the model's cache, the bytes of a row's states, and those of a token's keys."""
        vocabulary = self._model.get_input_embeddings().num_embeddings
        text = [token % vocabulary for token in range(1, 2 * PROBE + 1)]
        seen = []
        for rows, length in ((1, PROBE), (2, PROBE), (1, 2 * PROBE)):
            keys = self._attention.read()
            ids = torch.tensor([text[:length]] * rows, device=self._device)
            _, state = read(self._model, empty_state(self._model), ids, 0, 1)
            seen.append((state, found_states(state, self._model)))
        found = leaves(*(tensors for _, tensors in seen))
        frame = StateFrame(seen[0][0], found, self._model, self._attention)
        # What the last text has left in the model's own modules.
        frame.states_of(seen[-1][0])
        states = sum(seen[0][1][leaf.path].nbytes for leaf in found)
        return frame, states, sum(row.bytes_per_token for row in keys)
