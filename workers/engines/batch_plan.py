"""Which of the jobs that wait share a batch of a padded model: pure decisions over their costs."""

from collections.abc import Sequence

PADDING_CAP = 0.25
"""Share of a batch that may be padding. Half of a batch of mixed lengths, taken as they come, is."""


def oldest_first(costs: Sequence[float], most: int, budget: float) -> list[int]:
    """Indices of the next batch: as many of the oldest as are allowed; `costs` are in order of age.

    At least one is taken, however much it costs.
    """
    chosen: list[int] = []
    total = 0.0
    for index, cost in enumerate(costs[:most]):
        if chosen and total + cost > budget:
            break
        chosen.append(index)
        total += cost
    return chosen


def alike(costs: Sequence[float], most: int, budget: float) -> list[int]:
    """Indices of the next batch: the oldest job and those nearest to it in cost, cheapest first.

    Every row is padded to the dearest: rows times the highest cost stay within `budget`, and padding
    within `PADDING_CAP`. As the oldest is always in it, nobody waits for more batches than there were
    jobs before it.
    """
    if not costs:
        return []
    order = sorted(range(len(costs)), key=lambda index: costs[index])
    low = order.index(0)
    high = low + 1
    total = costs[0]
    while high - low < most:
        below = costs[order[low]] - costs[order[low - 1]] if low > 0 else float("inf")
        above = costs[order[high]] - costs[order[high - 1]] if high < len(order) else float("inf")
        if below == above == float("inf"):
            break
        index = order[low - 1] if below <= above else order[high]
        dearest = max(costs[order[high - 1]], costs[index])
        padded = dearest * (high - low + 1)
        if padded > budget or total + costs[index] < padded * (1 - PADDING_CAP):
            break
        total += costs[index]
        low, high = (low - 1, high) if below <= above else (low, high + 1)
    return order[low:high]
