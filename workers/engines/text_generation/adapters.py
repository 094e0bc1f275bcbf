"""LoRA adapters beside one base model: each row of a step gets its own adapter's share, or none.

The matrices of all adapters lie side by side, [columns, in] and [out, columns]. A row's products with the
columns of others are set to zero in between, so what a row becomes does not depend on whose rows share its
step, and a step takes two more products a layer however many adapters there are. A step without adapters
does none of it.

The method is LoRA's (https://arxiv.org/abs/2106.09685), many at once as in S-LoRA
(https://arxiv.org/abs/2311.03285).
"""

from collections.abc import Callable, Iterator, Mapping
from collections.abc import Sequence as Items
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from shared.domain.errors import ConfigError
from shared.domain.models.catalog import Adapter
from workers.engines.loading.lora_file import Lora, read_lora
from workers.engines.packed_weights import Product
from workers.engines.text_generation.chunk import Chunk
from workers.engines.text_generation.transfer import upload

MOST_COLUMNS = 1024
"""Ranks of all adapters of one host together: every step with an adapter in it computes all of them."""

Times = Callable[[torch.Tensor], torch.Tensor]
Columns = tuple[tuple[int, int], ...]
"""Whose the columns of a layer are: (adapter's number, how many), in order."""


class Adapters:
    """The adapters of a model that is in its place, hung on its linear layers.

    `refused` says by name why one cannot be served; the others are. `ranks` are those that were read.
    """

    def __init__(self, model: Any, adapters: Items[Adapter], device: torch.device) -> None:
        self._device = device
        self._numbers: dict[str, int] = {}
        self._of_row: torch.Tensor | None = None
        self._masks: dict[Columns, torch.Tensor] = {}
        self.refused: dict[str, str] = {}
        read = self._read(model, adapters)
        self.ranks = {name: lora.rank for name, lora in read.items()}
        self._layers = self._hang(model, read)

    def __bool__(self) -> bool:
        return bool(self._layers)

    @property
    def names(self) -> list[str]:
        """Names of the adapters that are served."""
        return [name for name in self._numbers if name not in self.refused]

    def refuse(self, name: str, why: str) -> None:
        """An adapter that was read turned out not to be right."""
        self.refused.setdefault(name, why)

    def refuse_all(self, why: str) -> None:
        """None of them can be served, for something that is their base's."""
        for name in self._numbers:
            self.refuse(name, f"models.{name}.adapter: {why}")

    def fix_rows(self) -> None:
        """From now on what an adapter adds to a row does not depend on how many rows a step has."""
        for layer in self._layers:
            layer.fix_rows()

    @contextmanager
    def rows(self, chunks: Items[Chunk]) -> Iterator[None]:
        """While a step with these chunks runs, side by side in this order."""
        names = [chunk.sequence.adapter for chunk in chunks for _ in range(chunk.length)]
        with self.of(names):
            yield

    @contextmanager
    def of(self, names: Items[str]) -> Iterator[None]:
        """While a pass runs whose tokens, row by row, have these adapters; "" for none.

        Entered again within a pass, for the rows that are left of it, it holds for the rest of the pass.
        """
        numbers = [self._numbers[name] if name else -1 for name in names]
        self._of_row = upload(numbers, torch.long, self._device) if any(names) else None
        self._masks.clear()
        try:
            yield
        finally:
            self._of_row = None
            self._masks.clear()

    @contextmanager
    def only(self, row: int) -> Iterator[None]:
        """While a part of a pass runs that has one of its rows alone."""
        before, masks = self._of_row, self._masks
        self._of_row, self._masks = None if before is None else before[row : row + 1], {}
        try:
            yield
        finally:
            self._of_row, self._masks = before, masks

    def wants(self, chunks: Items[Chunk]) -> bool:
        """Whether a step with these chunks needs any adapter."""
        return any(chunk.sequence.adapter for chunk in chunks)

    def idle_layers(self, name: str) -> list[str]:
        """Layers of an adapter that no forward pass has come through."""
        number = self._numbers[name]
        return [layer.name for layer in self._layers if layer.idle and layer.holds(number)]

    def mask(self, columns: Columns) -> torch.Tensor | None:
        """Bool [rows, columns], true where a column is its row's own; None in a step without adapters.

        Kept for the other layers of the step.
        """
        if self._of_row is None:
            return None
        found = self._masks.get(columns)
        if found is None:
            owners = [number for number, count in columns for _ in range(count)]
            at = upload(owners, torch.long, self._device)
            found = self._masks[columns] = self._of_row[:, None] == at
        return found

    def _read(self, model: Any, adapters: Items[Adapter]) -> dict[str, Lora]:
        found: dict[str, Lora] = {}
        for adapter in adapters:
            where = f"models.{adapter.name}.adapter"
            try:
                _check_place(model, where)
                lora = read_lora(adapter.path, model, where)
                columns = sum(one.rank for one in found.values()) + lora.rank
                if columns > MOST_COLUMNS:
                    raise ConfigError(
                        f"{where}: the adapters of its base have ranks of {columns} together, and one host"
                        f" serves {MOST_COLUMNS}; give the base a second entry for some of them"
                    )
            except ConfigError as error:
                self.refused[adapter.name] = error.detail
                continue
            self._numbers[adapter.name] = len(found)
            found[adapter.name] = lora
        return found

    def _hang(self, model: Any, read: Mapping[str, Lora]) -> list["AdaptedLayer"]:
        layers = []
        names = sorted({name for lora in read.values() for name in lora.layers})
        for name in names:
            parts = {
                self._numbers[one]: lora.layers[name]
                for one, lora in read.items()
                if name in lora.layers
            }
            layer = AdaptedLayer(name, parts, self, model.dtype, self._device)
            model.get_submodule(name).register_forward_hook(layer.add)
            layers.append(layer)
        return layers


class AdaptedLayer:
    """What adapters add to one linear layer. `parts`: each one's A and B by its number."""

    def __init__(
        self,
        name: str,
        parts: Mapping[int, tuple[torch.Tensor, torch.Tensor]],
        adapters: Adapters,
        dtype: torch.dtype,
        device: torch.device,
    ) -> None:
        self.name = name
        self.idle = True
        self._adapters = adapters
        self._columns: Columns = tuple((number, len(a)) for number, (a, _) in parts.items())
        self._weights = (
            torch.cat([a for a, _ in parts.values()]).to(device, dtype),
            torch.cat([b for _, b in parts.values()], dim=1).to(device, dtype),
        )
        self._down: Times = partial(functional.linear, weight=self._weights[0])
        self._up: Times = partial(functional.linear, weight=self._weights[1])

    def holds(self, number: int) -> bool:
        return any(number == each for each, _ in self._columns)

    def fix_rows(self) -> None:
        """See `Adapters.fix_rows`."""
        self._down, self._up = map(Product, self._weights)

    def add(self, _module: nn.Module, args: tuple[Any, ...], output: Any) -> Any:
        """A forward hook: the layer's output, [..., out], with each token's own share added."""
        mask = self._adapters.mask(self._columns)
        if mask is None:
            return None
        self.idle = False
        given: torch.Tensor = args[0]
        low = self._down(given.to(self._weights[0].dtype))
        # Not by a product: what is no number times zero is none either.
        own = torch.where(
            mask.reshape(low.shape), low, torch.zeros((), dtype=low.dtype, device=low.device)
        )
        return output + self._up(own).to(output.dtype)


def _check_place(model: Any, where: str) -> None:
    if len(set(map(str, (getattr(model, "hf_device_map", None) or {"": 0}).values()))) > 1:
        raise ConfigError(
            f"{where}: its base model is spread over several devices; adapters are served where it is on one"
        )
