"""How long a fault was felt.

A fault with victims (the jobs in a killed worker's hands) is over when the last of them has ended. One
that hits everybody is over when the first job ends that was not ended before. Where a scenario watches
for something stronger (all workers consume again), its own figure stands.
"""

import math
from collections.abc import Sequence

from tests.chaos.history import Fault, Final, History


def recoveries(history: History) -> list[float]:
    """Seconds from each fault to its end; infinite where it never ended."""
    ends = {final.job: final.finished for final in history.of(Final) if final.finished}
    order = sorted(ends.values())
    return [_recovery(fault, ends, order) for fault in history.of(Fault)]


def _recovery(fault: Fault, ends: dict[str, float], order: Sequence[float]) -> float:
    if fault.recovered is not None:
        return fault.recovered
    if fault.victims:
        return max(ends.get(job, math.inf) for job in fault.victims) - fault.at
    return next((end - fault.at for end in order if end > fault.at), math.nan)


def quantile(values: Sequence[float], q: float) -> float:
    """The smallest value that at least the share `q` of all values does not exceed; nan of none."""
    known = sorted(value for value in values if not math.isnan(value))
    if not known:
        return math.nan
    return known[max(0, math.ceil(q * len(known)) - 1)]
