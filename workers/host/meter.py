"""Splits the seconds of each step over the jobs that took part in it."""

from collections.abc import Collection, Mapping

from workers.engines.base import Step


class Meter:
    """What each job has used of the device, in seconds, since it was admitted.

    `busy` is all that was charged: the sum over the jobs that ended and those that are still here.
    """

    def __init__(self) -> None:
        self.busy = 0.0
        self._used: dict[str, float] = {}

    def charge(self, step: Step, seconds: float, present: Collection[str]) -> None:
        """Split a step's seconds: by the engine's own shares, else evenly over those that said something
        or ended, else over all who were there.
        """
        weights = _present(step.shares, present)
        if not weights:
            heard = dict.fromkeys([p.id for p in step.pieces] + [o.id for o in step.outcomes], 1.0)
            weights = _present(heard, present) or dict.fromkeys(present, 1.0)
        if not weights:
            return
        total = sum(weights.values())
        self.busy += seconds
        for job_id, weight in weights.items():
            self._used[job_id] = self._used.get(job_id, 0.0) + seconds * weight / total

    def take(self, job_id: str) -> float:
        """What a job that ends has used. It is forgotten."""
        return self._used.pop(job_id, 0.0)


def _present(weights: Mapping[str, float], present: Collection[str]) -> dict[str, float]:
    return {
        job_id: weight
        for job_id, weight in weights.items()
        if job_id in present and 0 < weight < float("inf")
    }
