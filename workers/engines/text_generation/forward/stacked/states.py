"""Finds, whatever an architecture calls it, what a cache of transformers holds of each row.

A row's states are tensors of a fixed size (convolution windows, recurrent and SSM states) somewhere in the
object that `generate` hands from step to step, or in the model's own modules. Which dimension counts rows is
seen by reading a text once and twice side by side.
"""

import copy
from collections.abc import Iterator
from collections.abc import Sequence as Items
from dataclasses import dataclass
from typing import Any

import torch
from transformers import PreTrainedConfig
from transformers.cache_utils import CacheLayerMixin, DynamicLayer
from transformers.generation.utils import ALL_CACHE_NAMES

from workers.engines.text_generation.forward.stacked.row_attention import RowAttention, Unstackable

GROWING = ("keys", "values")
"""What `RowAttention` keeps instead of transformers' layers."""

CACHE, MODULE = "cache", "module"

Path = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Leaf:
    """A tensor with a row's state: where it lies, and which of its dimensions counts rows."""

    path: Path
    rows: int


def found_states(state: dict[str, Any], model: Any) -> dict[Path, torch.Tensor]:
    """Every tensor of a cache and those that lie in the model's modules outside parameters and buffers."""
    found = dict(_tensors(_caches(state), (CACHE,)))
    for name, module in model.named_modules():
        found |= {
            (MODULE, name, attribute): value
            for attribute, value in vars(module).items()
            if isinstance(value, torch.Tensor)
        }
    return found


def keeps_anything(state: dict[str, Any]) -> bool:
    """Whether there is a cache in which a text has left something."""
    return next(_tensors(_caches(state), (), growing=True), None) is not None


def leaves(
    one: dict[Path, torch.Tensor], two: dict[Path, torch.Tensor], longer: dict[Path, torch.Tensor]
) -> list[Leaf]:
    """The states among what was found after one row, two rows, and one row with a longer text.

    Raises `Unstackable` where a state grows with the text, or is not the same for every row.
    """
    if one.keys() != two.keys() or one.keys() != longer.keys():
        raise Unstackable("what its cache holds depends on the text")
    made: list[Leaf] = []
    for path, tensor in one.items():
        others = two[path].shape, longer[path].shape
        if any(len(shape) != tensor.dim() for shape in others):
            raise Unstackable(f"its cache changes its shape: {_name(path)}")
        differ = [d for d, size in enumerate(tensor.shape) if others[0][d] != size]
        if not differ:
            continue
        if len(differ) > 1 or tensor.shape[differ[0]] * 2 != others[0][differ[0]]:
            raise Unstackable(f"its cache mixes rows: {_name(path)}")
        if others[1] != tensor.shape:
            raise Unstackable(f"its cache grows with the text: {_name(path)}")
        made.append(Leaf(path, differ[0]))
    return made


class StateFrame:
    """A cache without anybody's states: those of a step's rows are put in, and taken out afterwards."""

    def __init__(
        self, state: dict[str, Any], found: Items[Leaf], model: Any, attention: RowAttention
    ) -> None:
        self._attention = attention
        self.leaves = found
        self._modules = dict(model.named_modules())
        self.longest = 0
        self.caches: dict[str, Any] = self._framed(_caches(state))
        """Under the names that the model's forward pass has for them."""
        self._places = [self._place(self.caches, leaf.path) for leaf in found]

    def states_of(self, state: dict[str, Any]) -> list[torch.Tensor]:
        """One tensor for each leaf of a cache that a prompt has just been read into."""
        caches = _caches(state)
        places = [self._place(caches, leaf.path) for leaf in self.leaves]
        return _taken(places, [leaf.path[0] == MODULE for leaf in self.leaves])

    def put(self, tensors: Items[torch.Tensor], longest: int) -> None:
        """One tensor for each leaf, and how many tokens the longest row has."""
        self.longest = longest
        for (container, key), tensor in zip(self._places, tensors, strict=True):
            container[key] = tensor

    def take(self) -> list[torch.Tensor]:
        """The tensors that the pass has left, in place of those that were put in."""
        return _taken(self._places, [True] * len(self._places))

    def _place(self, caches: Any, path: Path) -> tuple[Any, Any]:
        kind, *steps, key = path
        node = caches
        if kind == MODULE:
            node = self._modules[steps.pop(0)]
        for step in steps:
            node = _inside(node)[step]
        return _inside(node), key

    def _framed(self, node: Any) -> Any:
        """A copy down to the tensors, whose attention layers keep no keys."""
        if isinstance(node, dict):
            return {key: self._framed(value) for key, value in node.items()}
        if isinstance(node, list | tuple):
            return [self._framed(value) for value in node]
        if not _is_container(node):
            return node
        made = copy.copy(node)
        vars(made).update({name: self._framed(value) for name, value in vars(node).items()})
        if isinstance(node, CacheLayerMixin):
            window = getattr(node, "sliding_window", None)
            vars(made).update(
                dict.fromkeys(GROWING),
                update=lambda key, value, *_, **__: self._updated(key, value, window),
                get_seq_length=lambda *_: self.longest,
                get_mask_sizes=lambda *_: (1, 0),
            )
        return made

    def _updated(
        self, key: torch.Tensor, value: torch.Tensor, window: int | None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        self._attention.window = window
        return key, value


def _taken(places: Items[tuple[Any, Any]], emptied: Items[bool]) -> list[torch.Tensor]:
    """What lies there. A model's modules must not go on with somebody else's states."""
    taken = [container[key] for container, key in places]
    for (container, key), gone in zip(places, emptied, strict=True):
        if gone:
            container[key] = None
    return taken


def _caches(state: dict[str, Any]) -> dict[str, Any]:
    return {name: state[name] for name in ALL_CACHE_NAMES if state.get(name) is not None}


def _tensors(
    node: Any, path: Path, *, growing: bool = False
) -> Iterator[tuple[Path, torch.Tensor]]:
    """With `growing` the keys and values of attention layers too."""
    if isinstance(node, torch.Tensor):
        yield path, node
        return
    inside = _inside(node) if isinstance(node, dict | list | tuple) or _is_container(node) else {}
    for key, value in inside.items() if isinstance(inside, dict) else enumerate(inside):
        if growing or not (isinstance(node, DynamicLayer) and key in GROWING):
            yield from _tensors(value, (*path, key), growing=growing)


def _inside(node: Any) -> Any:
    """The dictionary or list in which an object's parts lie."""
    return node if isinstance(node, dict | list | tuple) else vars(node)


def _is_container(node: Any) -> bool:
    """Whether an object is part of a cache: one of transformers' own, and no configuration."""
    kind = type(node)
    return kind.__module__.startswith("transformers.") and not isinstance(
        node, PreTrainedConfig | torch.nn.Module
    )


def _name(path: Path) -> str:
    return ".".join(map(str, path[1:]))
