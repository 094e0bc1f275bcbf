"""What a step costs by how many tokens it runs, and how many more of them are worth their time."""

from collections.abc import Mapping
from dataclasses import dataclass

LENGTHS = (1, 2, 3, 4, 6, 8, 11, 15, 23, 31)
"""Lengths of drafts to choose from. 15 and the text's last token fill a block of rows."""
LEAST_GAIN = 1.01
"""Of tokens a second by a draft: less than this is within the error of what was measured."""


@dataclass(frozen=True, slots=True)
class Outlook:
    """A step that runs `rows` tokens, `worth` of which are hoped to be right: those of no draft all are.

    `mixed`: it is not one of single tokens.
    """

    rows: int
    worth: float
    mixed: bool = False


@dataclass(frozen=True, slots=True)
class StepCosts:
    """Seconds of a step by its number of tokens, between which a straight line is drawn.

    `single` are those of steps in which each text has one token, `mixed` those of all others: on a device
    where the former are replayed as graphs the latter begin at a higher price.
    """

    single: Mapping[int, float]
    mixed: Mapping[int, float]

    def best(self, rate: float, most: int, step: Outlook) -> Outlook:
        """The step with a draft of at most `most` tokens, each of which is right at a `rate`.

        The one that makes the most tokens a second; `step` as it is when no draft pays.
        """
        before = _between(self.mixed if step.mixed else self.single, step.rows)
        best, found = LEAST_GAIN * step.worth / before, step
        hoped, chance, length = 0.0, 1.0, 0
        for count in LENGTHS:
            if count > most:
                break
            while length < count:
                chance *= rate
                hoped += chance
                length += 1
            longer = Outlook(step.rows + count, step.worth + hoped, mixed=True)
            gain = longer.worth / _between(self.mixed, longer.rows)
            if gain > best:
                best, found = gain, longer
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
