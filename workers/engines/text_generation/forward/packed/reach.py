"""How far back each layer lets a token look: to the text's beginning, over a window, or within a chunk."""

from dataclasses import dataclass

import torch

from workers.engines.packed_attention import AttentionCall, MaskRule, Unpackable

SAMPLES = 64
"""Positions at which a rule is compared with the mask, besides those around its own bounds."""


@dataclass(frozen=True, slots=True)
class Reach:
    """A token sees itself and what is before it, back to `first`.

    With `span` the last `span` tokens, itself among them; when `chunked`, those since the last multiple of
    `span`. Without it all.
    """

    span: int | None = None
    chunked: bool = False

    def first(self, position: int) -> int:
        """The first position that the token at `position` sees."""
        if self.span is None:
            return 0
        if self.chunked:
            return position // self.span * self.span
        return max(0, position - self.span + 1)

    def firsts(self, positions: torch.Tensor) -> torch.Tensor:
        """`first` of each of the positions, or a number below 0 that stands for 0."""
        if self.span is None:
            return torch.zeros_like(positions)
        if self.chunked:
            return positions // self.span * self.span
        return positions - (self.span - 1)

    def whole(self, start: int, end: int) -> bool:
        """Whether each token from `start` to `end` sees all from `start` on that is before it."""
        return self.first(end - 1) <= start

    def __str__(self) -> str:
        if self.span is None:
            return "all tokens"
        return (
            f"chunks of {self.span} tokens" if self.chunked else f"a window of {self.span} tokens"
        )


FULL = Reach()


def reach_of(call: AttentionCall, length: int) -> Reach:
    """What a layer's mask means for texts of up to `length` tokens.

    The mask is the truth where there is one, as in the implementations that transformers checks others
    against. Raises `Unpackable` for a mask that is neither causal, nor a window, nor chunks.
    """
    if call.rule is not None:
        return _of_rule(call.rule, length, call.query.device)
    if call.window is not None and call.window < length:
        return Reach(call.window)
    return FULL


def _of_rule(rule: MaskRule, length: int, device: torch.device) -> Reach:
    places = torch.arange(length, device=device)
    # Whoever does not see the first token any more gives the rule away.
    blind = torch.nonzero(~_sees(rule, places, places[:1])[:, 0])
    if not len(blind):
        reach = FULL
    else:
        span = int(blind[0])
        if span < 1:
            raise Unpackable("a layer's mask hides a token from itself")
        row = _sees(rule, places[span : span + 1], places)[0]
        reach = Reach(span, chunked=span > 1 and int(torch.nonzero(row)[0]) == span)
    asked = places[_samples(reach, length)]
    shown = (places <= asked[:, None]) & (places >= reach.firsts(asked)[:, None])
    if not torch.equal(_sees(rule, asked, places), shown):
        raise Unpackable("a layer's mask is neither causal, nor a sliding window, nor chunks")
    return reach


def _sees(rule: MaskRule, asked: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
    """bool [asked, places]"""
    found = rule(0, 0, asked[:, None], places[None])
    return found.expand(len(asked), len(places))


def _samples(reach: Reach, length: int) -> list[int]:
    found = {*range(0, length, max(1, length // SAMPLES)), length - 1}
    for multiple in (1, 2, 3):
        at = multiple * (reach.span or length)
        found |= {at - 1, at, at + 1}
    return sorted(place for place in found if 0 <= place < length)
