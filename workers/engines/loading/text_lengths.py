"""Finds out how long a text may be for a model, and which lengths may share a forward pass."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

PROBE = 5
"""Tokens of the text that finds position tables."""


@dataclass(frozen=True, slots=True)
class ScaledRotary:
    """A rotary embedding whose frequencies follow the longest text of a forward pass.

    Up to `bound` tokens they are the trained ones. Beyond, they are a second set ("longrope") or depend
    on the very length (`exact`, dynamic NTK). transformers.modeling_rope_utils.dynamic_rope_update.
    """

    module: Any
    layer_type: str | None
    bound: int
    exact: bool

    def kind(self, length: int) -> int:
        """Texts of one kind have the same frequencies."""
        if length <= self.bound:
            return 0
        return length if self.exact else 1

    def forget(self) -> None:
        """Back to the trained frequencies: dynamic NTK keeps those of the longest text so far."""
        if not self.exact:
            return
        here = next(self.module.buffers())
        short = torch.zeros(1, 1, dtype=torch.long, device=here.device)
        options = {} if self.layer_type is None else {"layer_type": self.layer_type}
        self.module(here.new_zeros(1, 1, 1), short, **options)


def scaled_rotaries(model: torch.nn.Module) -> list[ScaledRotary]:
    """The rotary embeddings of a model that depend on the length of a text."""
    return [found for module in model.modules() for found in _scaled(module)]


def _scaled(module: Any) -> Iterator[ScaledRotary]:
    kinds = getattr(module, "rope_type", None)
    by_layer = kinds if isinstance(kinds, dict) else {None: kinds}
    for layer_type, kind in by_layer.items():
        if not isinstance(kind, str):
            continue
        if "dynamic" in kind:
            yield ScaledRotary(module, layer_type, int(module.original_max_seq_len), exact=True)
        elif kind == "longrope":
            parameters = module.config.rope_parameters
            parameters = parameters if layer_type is None else parameters[layer_type]
            bound = int(parameters["original_max_position_embeddings"])
            yield ScaledRotary(module, layer_type, bound, exact=False)


@dataclass(frozen=True, slots=True)
class PositionTable:
    """A learned vector for each position: the row of the first one, and how many tokens fit.

    RoBERTa's tables begin behind the padding id, OPT's two rows late; no configuration says so.
    """

    first: int
    room: int


class _Lookups(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch leaves it untyped
    """Notes the tables that are asked for n rows in a row while n tokens of one id are run."""

    def __init__(self, length: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._length = length
        self.tables: list[PositionTable] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        if func is torch.ops.aten.embedding.default:
            self._note(args[0].shape[0], args[1])
        return func(*args, **(kwargs or {}))

    def _note(self, rows: int, places: torch.Tensor) -> None:
        if not places.numel() or places.shape[-1:].numel() != places.numel():
            return
        found = places.flatten()[: self._length].tolist()  # Longformer pads to its window
        first = found[0]
        if found == list(range(first, first + self._length)):
            self.tables.append(PositionTable(first, rows - first))


def position_table(model: Any, vocabulary: int, device: torch.device) -> PositionTable | None:
    """The smallest position table of a model of so many token ids, found by running it; None without one.

    Lets through what the model raises on a text of `PROBE` tokens.
    """
    # Padding has no position; MPNet takes id 1 for it, whatever its configuration says.
    padding = {getattr(module, "padding_idx", None) for module in model.modules()}
    padding.add(getattr(model.config, "pad_token_id", None))
    token = next((id_ for id_ in reversed(range(vocabulary)) if id_ not in padding), 0)
    with _Lookups(PROBE) as lookups:
        model(input_ids=torch.full((1, PROBE), token, device=device))
    return min(lookups.tables, key=lambda table: table.room, default=None)


def rotary_room(config: Any) -> int | None:
    """The context of a model without a position table, in tokens; None when nothing bounds it.

    With YaRN and dynamic NTK `max_position_embeddings` may be what was trained, before it is stretched.
    """
    trained = getattr(config, "max_position_embeddings", None)
    if not isinstance(trained, int) or trained < 1:  # XLNet says -1
        return None
    rooms = [trained]
    for rope in _rope_parameters(config):
        kind, factor = rope.get("rope_type"), rope.get("factor") or 1.0
        if kind == "yarn":
            rooms.append(int((rope.get("original_max_position_embeddings") or trained) * factor))
        elif kind == "dynamic":
            rooms.append(int(trained * factor))
    return max(rooms)


def _rope_parameters(config: Any) -> list[dict[str, Any]]:
    found = getattr(config, "rope_parameters", None)
    if not isinstance(found, dict):
        return []
    if "rope_type" in found:
        return [found]
    return [part for part in found.values() if isinstance(part, dict)]
