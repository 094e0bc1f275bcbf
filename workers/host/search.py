"""Searches a group of jobs for the one that makes a step fail. Pure decisions over ids."""

from collections.abc import Collection, Sequence

FAN_OUT = 4
"""A part of those known to fail is tried: 1 in this many. Chosen in docs/decisions/0023."""
SICK_AFTER = 3
"""Jobs that failed alone, one after the other: more likely the engine than its input."""
PATIENCE = 64
"""Steps in which nobody under trial says anything, after which the trial counts as passed."""


class Search:
    """Which of these jobs fails? Decides who is tried next; pure, over ids.

    `group` is known to fail together. Try `trial` alone in the engine and say `failed` or `ran`, until
    `over`. For n jobs, every culprit costs at most log4(n) + 2 steps that fail.

    A job that fails alone is only accused. It is `poison` once another one has run well after it, or
    did so before and fewer than `SICK_AFTER` failed since; otherwise the engine is to blame and the job
    is in `unlucky`. `fresh` jobs have never been through a good step: they are tried first.
    """

    def __init__(self, group: Sequence[str], fresh: Collection[str] = ()) -> None:
        self.trial = list(group)
        self.poison: list[str] = []
        self.unlucky: list[str] = []
        self._fresh = frozenset(fresh)
        self._accused: list[str] = []
        self._rest: list[str] = []
        """Together with `trial` they are known to fail."""
        self._untested: list[str] = []
        self._unheard: set[str] = set()
        self._patience = PATIENCE
        self._healthy = False
        self.failed()

    @property
    def over(self) -> bool:
        return not self.trial

    def failed(self) -> None:
        """A step with just the trial's jobs raised."""
        self._untested = self._rest + self._untested
        self._rest = []
        if len(self.trial) > 1:
            self._narrow(self.trial)
            return
        self._accused += self.trial
        self._next()

    def ran(self, heard: Collection[str], ended: Collection[str], *, healthy: bool) -> None:
        """A step passed. `heard` said something or ended; `healthy`: at least one of them said it well."""
        if healthy:
            self._healthy = True
            self.poison += self._accused
            self._accused = []
        self.trial = [job for job in self.trial if job not in ended]
        self._unheard.difference_update(heard)
        self._patience = PATIENCE if heard else self._patience - 1
        if self._unheard and self._patience > 0:
            return
        if self._rest:
            self._narrow(self._rest)
        else:
            self._next()

    def drop(self, job_id: str) -> None:
        """The job is gone for another reason, such as a cancel; nothing is known of it."""
        for jobs in (self.trial, self._rest, self._untested, self._accused):
            if job_id in jobs:
                jobs.remove(job_id)
        self._unheard.discard(job_id)
        if not self.trial:
            self._untested = self._rest + self._untested
            self._next()

    def _narrow(self, group: list[str]) -> None:
        first, second = self._split(group)
        self._rest = second
        self._try(first)

    def _split(self, group: list[str]) -> tuple[list[str], list[str]]:
        fresh = [job for job in group if job in self._fresh]
        if 0 < len(fresh) < len(group):
            return fresh, [job for job in group if job not in self._fresh]
        size = -(-len(group) // FAN_OUT)
        return group[:size], group[size:]

    def _next(self) -> None:
        self._rest = []
        # Where one after the other fails alone, parts of many only add steps.
        count = 1 if len(self._accused) >= SICK_AFTER else len(self._untested)
        trial, self._untested = self._untested[:count], self._untested[count:]
        self._try(trial)
        if self.over:
            sick = not self._healthy or len(self._accused) >= SICK_AFTER
            (self.unlucky if sick else self.poison).extend(self._accused)
            self._accused = []

    def _try(self, group: list[str]) -> None:
        self.trial = group
        self._unheard = set(group)
        self._patience = PATIENCE
