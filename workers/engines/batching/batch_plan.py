"""Chooses which waiting jobs share a batch of a padded model. Pure decisions over their costs."""

from collections.abc import Sequence

from workers.engines.batching.batch_wait import StepCost

PADDING_CAP = 0.25
"""Share of a batch that may be padding. Half of a batch of mixed lengths, taken as they come, is."""


def around(expires: Sequence[float], now: float, cost: StepCost, most: int) -> tuple[int, int]:
    """Whom the next batch is built around, by index in order of age, and how many rows it may have.

    That is the oldest job, unless another one's time is so short that it does not stand two batches: then
    it comes first, in a batch that is over in time. A job that cannot make it alone is not preferred.
    """
    urgent = min(range(len(expires)), key=lambda index: expires[index])
    left = expires[urgent] - now
    if left >= 2 * cost.seconds(min(most, len(expires))) or left < cost.seconds(1):
        return 0, most
    if cost.seconds(most) <= left:
        return urgent, most
    return urgent, max(1, min(most, int((left - cost.overhead) / cost.per_item)))


def oldest_first(costs: Sequence[float], most: int, budget: float, first: int = 0) -> list[int]:
    """Indices of the next batch: `first` and as many of the oldest as are allowed.

    `costs` are in order of age. At least one is taken, however much it costs.
    """
    if not costs:
        return []
    chosen: list[int] = []
    total = 0.0
    for index in [first, *(other for other in range(len(costs)) if other != first)][:most]:
        if chosen and total + costs[index] > budget:
            break
        chosen.append(index)
        total += costs[index]
    return chosen


def alike(costs: Sequence[float], most: int, budget: float, first: int = 0) -> list[int]:
    """Indices of the next batch: the job `first` and those nearest to it in cost, cheapest first.

    Every row is padded to the dearest: rows times the highest cost stay within `budget`, and padding
    within `PADDING_CAP`. While `first` is the oldest, nobody waits for more batches than there were
    jobs before it.
    """
    if not costs:
        return []
    order = sorted(range(len(costs)), key=lambda index: costs[index])
    low = order.index(first)
    high = low + 1
    total = costs[first]
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
