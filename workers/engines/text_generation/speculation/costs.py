"""What a step costs by how many tokens it runs, and how many more of them are worth their time."""

from collections.abc import Mapping
from dataclasses import dataclass

LENGTHS = (1, 2, 3, 4, 6, 8, 11, 15, 23, 31)
"""Lengths of drafts to choose from. 15 and the text's last token fill a block of rows."""
LEAST_GAIN = 1.02
"""Of tokens a second by a draft: less than this is within the error of what was measured."""


@dataclass(frozen=True, slots=True)
class StepCosts:
    """Seconds of a step by its number of tokens, between which a straight line is drawn.

    `single` are those of steps in which each text has one token, `mixed` those of all others: on a device
    where the former are replayed as graphs the latter begin at a higher price.
    """

    single: Mapping[int, float]
    mixed: Mapping[int, float]

    def draft_length(self, rate: float, most: int, rows: int, *, mixed: bool) -> int:
        """How many tokens of a draft to run beside `rows` others, when each is right at a `rate`.

        As many as make the most tokens a second, at most `most`; 0 when a draft does not pay. `mixed`: the
        step is one of `StepCosts.mixed` already.
        """
        before = _between(self.mixed if mixed else self.single, rows)
        best, found = LEAST_GAIN * rows / before, 0
        hoped = 0.0
        chance, length = 1.0, 0
        for count in LENGTHS:
            if count > most:
                break
            while length < count:
                chance *= rate
                hoped += chance
                length += 1
            gain = (rows + hoped) / _between(self.mixed, rows + count)
            if gain > best:
                best, found = gain, count
        return found


def _between(costs: Mapping[int, float], rows: int) -> float:
    """By the two measured sizes next to `rows`; beyond the last one the line goes on."""
    sizes = sorted(costs)
    if len(sizes) == 1:
        return costs[sizes[0]]
    upper = next((n for n, size in enumerate(sizes) if size >= rows), len(sizes) - 1) or 1
    left, right = sizes[upper - 1], sizes[upper]
    slope = max(0.0, (costs[right] - costs[left]) / (right - left))
    return max(costs[left] + slope * (rows - left), 1e-9)
