"""Attention of many texts that lie side by side in one row, each to itself alone."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Literal, NamedTuple

import torch
from torch.nn import functional

from workers.engines.packed_attention import AttentionCall, Unpackable

Look = Literal["all", "first", "last"]
"""Which tokens of a text somebody wants the vectors of."""
PLAIN = range(17, 129)
"""Tokens of texts for which two plain products are quicker than a CPU's fused attention in float32. Measured
with heads of 32, 64 and 128 numbers on one thread: of shorter ones many share a fused call, of longer ones
the scores leave the cache."""


class Run(NamedTuple):
    """`texts` texts of `length` tokens, from token `offset` of the row; the first `seen` may be looked at."""

    offset: int
    texts: int
    length: int
    seen: int

    @property
    def span(self) -> slice:
        return slice(self.offset, self.offset + self.texts * self.length)


@dataclass(slots=True, eq=False)
class SegmentAttention:
    """Each text attends to itself alone, in runs of texts that are alike in length.

    Where `look` is not "all", the layer after `full` others answers for those tokens of the texts alone.
    """

    look: Look = "all"
    full: int = 0
    calls: int = field(default=0, init=False)
    """Layers of the current pass that have asked."""
    _runs: Sequence[Run] = field(default=(), init=False)
    _narrow: Callable[[], object] | None = field(default=None, init=False)

    def begin(self, runs: Sequence[Run], narrow: Callable[[], object] | None = None) -> None:
        """A new pass over a row of these runs. `narrow` is called when only `look` tokens are left."""
        self._runs, self._narrow, self.calls = runs, narrow, 0

    def attend(self, call: AttentionCall) -> torch.Tensor:
        """See `PackedAttention`. A window reaches `window` - 1 tokens, to both sides where not causal."""
        if any(each is not None for each in (call.softcap, call.sinks, call.mask)):
            raise Unpackable("its attention wants a soft cap, sinks or a mask of its own")
        look: Look = self.look if self.calls == self.full else "all"
        self.calls += 1
        alone = look != "all"
        sizes = [run.texts if alone else run.texts * run.length for run in self._runs]
        out = call.query.new_empty(sum(sizes), call.query.shape[1], call.value.shape[-1])
        for run, found in zip(self._runs, torch.split(out, sizes), strict=True):
            _attend(call, run, look, found)
        attended = out[None]
        if alone and self._narrow is not None:
            self._narrow()
        return attended


def _attend(call: AttentionCall, run: Run, look: Look, out: torch.Tensor) -> None:
    """What the `look` tokens of a run's texts see, into [tokens, heads, d]."""
    query, key, value = (each[0, :, run.span] for each in (call.query, call.key, call.value))
    if look != "all":
        query = query[:, (0 if look == "first" else run.length - 1) :: run.length]
    causal = bool(getattr(call.module, "is_causal", False))
    mask = _mask(run, call.window, causal, look, query.device)
    grouped = len(key) != len(query)
    plain = mask is None and not causal and not grouped and run.seen == run.length
    fits = query.device.type == "cpu" and query.dtype == torch.float32 and run.length in PLAIN
    if plain and fits and look == "all":
        _in_products(run, query, key, value, out, call.scale)
        return
    attended = functional.scaled_dot_product_attention(
        _by_text(query, run.texts),
        _by_text(key, run.texts)[:, :, : run.seen],
        _by_text(value, run.texts)[:, :, : run.seen],
        attn_mask=mask,
        is_causal=causal and mask is None and look == "all",
        scale=call.scale,
        enable_gqa=grouped,
    )
    out[:] = attended.transpose(1, 2).flatten(0, 1)


def _in_products(
    run: Run,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    out: torch.Tensor,
    scale: float | None,
) -> None:
    """Attention of [heads, texts * length, d], text by text: none is computed otherwise for others' sake."""
    scale = query.shape[-1] ** -0.5 if scale is None else scale
    nothing = query.new_empty(())
    for start in range(0, run.texts * run.length, run.length):
        text = slice(start, start + run.length)
        turned = key[:, text].transpose(1, 2)
        scores = torch.baddbmm(nothing, query[:, text], turned, beta=0, alpha=scale)
        out[text] = torch.bmm(scores.softmax(-1), value[:, text]).transpose(0, 1)


def _mask(
    run: Run, window: int | None, causal: bool, look: Look, device: torch.device
) -> torch.Tensor | None:
    """[asked, seen], true where a token looks; None where it looks at all, or at all before it."""
    narrow = window is not None and run.length > window
    early = causal and (run.seen < run.length or look == "first")
    if not narrow and not early:
        return None
    behind = (
        torch.arange(run.length, device=device)[:, None]
        - torch.arange(run.seen, device=device)[None, :]
    )
    looks = torch.ones_like(behind, dtype=torch.bool)
    if causal:
        looks &= behind >= 0
    if window is not None and narrow:
        looks &= behind.abs() < window
    return looks if look == "all" else looks[:1] if look == "first" else looks[-1:]


def _by_text(tensor: torch.Tensor, texts: int) -> torch.Tensor:
    """[heads, texts * length, d] to [texts, heads, length, d]"""
    heads, _, width = tensor.shape
    return tensor.reshape(heads, texts, -1, width).transpose(0, 1)


def runs_of(sizes: Sequence[tuple[int, int]]) -> list[Run]:
    """[(3, 3), (3, 3), (5, 4)] to runs of (0, 2, 3, 3) and (6, 1, 5, 4)"""
    runs: list[Run] = []
    offset = 0
    for (length, seen), same in groupby(sizes):
        count = len(list(same))
        runs.append(Run(offset, count, length, seen))
        offset += count * length
    return runs
