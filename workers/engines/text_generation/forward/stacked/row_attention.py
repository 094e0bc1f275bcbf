"""Lets rows of different lengths share a decode step of a model as transformers has it, without padding.

Each row attends alone, by the model's own attention function, to keys that lie beside nobody else's: neither
a mask nor the order of additions depends on who shares the step. What a row looks back on is kept as its
attention sees it, whatever the cache of transformers holds.

The mechanism is transformers' AttentionInterface:
https://huggingface.co/docs/transformers/attention_interface
"""

import sys
from collections.abc import Callable
from collections.abc import Sequence as Items
from functools import partial
from typing import Any

import torch
from transformers import AttentionInterface
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

HOOK = "row_attention"
NAMES = {"sdpa": "truthgpt-rows-sdpa", "eager": "truthgpt-rows-eager"}
"""Ours for each of transformers' implementations, whose functions and masks are used."""
MASKED = {name: f"{ours}-masked" for name, ours in NAMES.items()}
"""Ours for models that read the mask of a single token too, for more than their attention."""
GROWTH = 64
"""Tokens that a row's keys get room for at a time."""


class Unstackable(Exception):
    """The model asks for something that rows side by side cannot give. Says what."""


class RowKeys:
    """Keys and values of one row in one layer, of all its tokens or of those that a window still reaches.

    A place is written again when a step is repeated.
    """

    __slots__ = ("_first", "_keys", "_values")

    def __init__(self, keys: torch.Tensor, values: torch.Tensor) -> None:
        """[1, heads, length, width] each, of a text's first tokens."""
        self._first = 0
        """The position of the token in the buffers' first place."""
        self._keys = keys
        self._values = values

    @property
    def bytes_per_token(self) -> int:
        return sum(
            tensor.shape[1] * tensor.shape[-1] * tensor.itemsize
            for tensor in (self._keys, self._values)
        )

    def shared(self) -> "RowKeys":
        """The same keys for another row. They have no room yet, so whoever goes on with them copies them."""
        return RowKeys(self._keys, self._values)

    def extended(
        self, position: int, key: torch.Tensor, value: torch.Tensor, window: int | None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The last `window` tokens up to `position`, whose key and value [1, heads, 1, width] come last."""
        first = 0 if window is None else max(0, position + 1 - window)
        place = position - self._first
        if place == self._keys.shape[-2]:
            gone = max(0, first - self._first)
            self._keys = _roomy(self._keys[..., gone:, :])
            self._values = _roomy(self._values[..., gone:, :])
            self._first += gone
            place -= gone
        self._keys[..., place : place + 1, :] = key
        self._values[..., place : place + 1, :] = value
        seen = slice(max(0, first - self._first), place + 1)
        return self._keys[..., seen, :], self._values[..., seen, :]


class IndexKeys:
    """The keys that an indexer keeps in one layer, of all rows of a pass: [1, tokens, width] each.

    They are kept as an attention's of one head are, whose values have no width.
    """

    def __init__(self, rows: Items[list[RowKeys]], positions: Items[int], number: int) -> None:
        self._rows = rows
        self._positions = positions
        self._number = number

    def keep(self, keys: torch.Tensor) -> torch.Tensor:
        """Those of a prompt, which are all that there are."""
        self._rows[0].append(RowKeys(keys[:, None], keys[:, None, :, :0]))
        return keys

    def extend(self, row: int, key: torch.Tensor) -> torch.Tensor:
        """All of a row's keys, of which the last is that of its new token."""
        kept, position = self._rows[row][self._number], self._positions[row]
        return kept.extended(position, key[:, None], key[:, None, :, :0], None)[0][:, 0]


def _roomy(tensor: torch.Tensor) -> torch.Tensor:
    """A copy with room for an eighth more tokens, `GROWTH` of them at least."""
    length = tensor.shape[-2]
    room = tensor.new_zeros(*tensor.shape[:-2], length + max(GROWTH, length // 8), tensor.shape[-1])
    room[..., :length, :] = tensor
    return room


class RowAttention:
    """The attention of a model that is attached to it. A layer is known by when it is called in a pass."""

    def __init__(self, model: Any, *, masked: bool = False) -> None:
        """With `masked` the model is given a mask for a single token as well."""
        self._modules = list(model.modules())
        self._names = MASKED if masked else NAMES
        self._before = str(model.config._attn_implementation)
        if self._before not in NAMES:
            raise Unstackable(f"its attention is implemented by {self._before}")
        configs = {id(m.config): m.config for m in self._modules if hasattr(m, "config")}
        self._configs = [c for c in configs.values() if c._attn_implementation == self._before]
        self.window: int | None = None
        """How far the layer's cache reaches that was written last."""
        self.decodes = False
        self._rows: Items[list[RowKeys]] = ()
        self._positions: Items[int] = ()
        self._calls = 0

    def attach(self) -> None:
        """Route the model's attention through here."""
        for module in self._modules:
            setattr(module, HOOK, self)
        self._name(self._names[self._before])

    def detach(self) -> None:
        """Give the model its own attention back."""
        for module in self._modules:
            if hasattr(module, HOOK):
                delattr(module, HOOK)
        self._name(self._before)

    def read(self) -> list[RowKeys]:
        """The next pass reads one prompt; the list is filled with what its layers will look back on."""
        kept: list[RowKeys] = []
        self._begin([kept], [0], decodes=False)
        return kept

    def decode(self, rows: Items[list[RowKeys]], positions: Items[int]) -> None:
        """The next pass has one token of each row, at these positions."""
        self._begin(rows, positions, decodes=True)

    def part(self) -> IndexKeys:
        """What the pass keeps for the indexer that runs now. Called once, in the place of its layer."""
        number, self._calls = self._calls, self._calls + 1
        return IndexKeys(self._rows, self._positions, number)

    def attend(
        self,
        module: torch.nn.Module,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        mask: torch.Tensor | None = None,
        indices: Any = None,
        **options: Any,
    ) -> tuple[torch.Tensor, Any]:
        """As transformers' attention functions: [rows, heads, n, width] to [rows, n, heads, width].

        `indices` are the tokens that an indexer has chosen: [rows, n, chosen], or a list with those of each
        row in a decode step; None looks at all.
        """
        number, self._calls = self._calls, self._calls + 1
        function = _own_function(module, self._before)
        if not self.decodes:
            self._rows[0].append(RowKeys(key, value))
            if indices is not None:
                mask = _narrowed(mask, indices, key.shape[-2])
            seen: tuple[torch.Tensor, Any] = function(module, query, key, value, mask, **options)
            return seen
        if len(query) != len(self._rows):
            raise Unstackable("its attention sees other rows than were put in")
        window = options.get("sliding_window") or self.window
        found: list[torch.Tensor] = []
        for at, (row, position) in enumerate(zip(self._rows, self._positions, strict=True)):
            one = slice(at, at + 1)
            keys, values = row[number].extended(position, key[one], value[one], window)
            if indices is not None and indices[at].shape[-1] < keys.shape[-2]:
                # In their order, in which the text alone adds them up as well.
                chosen = indices[at].flatten().long().sort().values
                keys, values = keys[..., chosen, :], values[..., chosen, :]
            found.append(function(module, query[one], keys, values, None, **options)[0])
        return torch.cat(found), None

    def _begin(self, rows: Items[list[RowKeys]], positions: Items[int], *, decodes: bool) -> None:
        self.window, self.decodes, self._calls = None, decodes, 0
        self._rows, self._positions = rows, positions

    def _name(self, name: str) -> None:
        for config in self._configs:
            config._attn_implementation = name


def _narrowed(mask: torch.Tensor | None, indices: torch.Tensor, length: int) -> torch.Tensor:
    """A prompt's mask [1, 1, n, length], of which the tokens stay that an indexer has chosen for each."""
    chosen = indices.new_zeros((*indices.shape[:2], length), dtype=torch.bool)
    chosen = chosen.scatter(-1, indices.long(), value=True).unsqueeze(1)
    if mask is None:
        raise Unstackable("its attention chooses tokens without a mask")
    if mask.dtype == torch.bool:
        return mask & chosen
    return mask.masked_fill(~chosen, torch.finfo(mask.dtype).min)


def _own_function(module: torch.nn.Module, implementation: str) -> Callable[..., Any]:
    if implementation == "eager":
        found: Callable[..., Any] = sys.modules[type(module).__module__].eager_attention_forward
        return found
    shared: Callable[..., Any] = ALL_ATTENTION_FUNCTIONS[implementation]
    return shared


def _attend(module: torch.nn.Module, *arguments: Any, **options: Any) -> tuple[torch.Tensor, Any]:
    attention: RowAttention = getattr(module, HOOK)
    return attention.attend(module, *arguments, **options)


def _mask(implementation: str, *arguments: Any, **options: Any) -> torch.Tensor | None:
    """What the model's own attention wants for a prompt. A single token sees all that is kept for it."""
    if options["q_length"] == 1 and options["kv_length"] == 1:
        return None
    mask: torch.Tensor | None = ALL_MASK_ATTENTION_FUNCTIONS[implementation](*arguments, **options)
    return mask


for _implementation, _ours in NAMES.items():
    AttentionInterface.register(_ours, _attend)
    ALL_MASK_ATTENTION_FUNCTIONS.register(_ours, partial(_mask, _implementation))
    AttentionInterface.register(MASKED[_implementation], _attend)
    ALL_MASK_ATTENTION_FUNCTIONS.register(
        MASKED[_implementation], ALL_MASK_ATTENTION_FUNCTIONS[_implementation]
    )
