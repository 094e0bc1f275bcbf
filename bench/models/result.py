"""What a run of the models brought, as it is written to `bench/results/*-models.json`."""

import statistics
from collections.abc import Sequence

import msgspec

from bench.reporting.figures import Spread, ratio
from bench.reporting.machine import Machine


class Turn(msgspec.Struct, frozen=True):
    """One subject once: work done a second (tokens or texts), and the 50th and 95th percentile of the
    seconds that a job took.
    """

    rate: float
    p50: float
    p95: float


class Entry(msgspec.Struct, frozen=True):
    """A subject's turns. `alike`: how many of `of` answers of its last turn are ours too.

    `goal`: how many times its rate ours is to be at least (0: none). `failed`: why it did not answer; it has
    no turns then.
    """

    name: str
    settings: str
    turns: list[Turn]
    alike: int
    of: int
    goal: float = 0.0
    failed: str = ""


class Outcome(msgspec.Struct, frozen=True):
    """A contest; the first entry is ours. `least` is how many answers must be alike, as a share.

    Goals: at least `rate_goal` times the best peer's rate, at most `p95_goal` times its p95 (0: none).
    """

    name: str
    title: str
    unit: str
    rate_goal: float
    p95_goal: float
    least: float
    entries: list[Entry]

    @property
    def best(self) -> Entry | None:
        """The peer with the highest median rate; None where no peer has answered."""
        answered = [entry for entry in self.entries[1:] if entry.turns]
        return max(answered, key=lambda entry: statistics.median(rates(entry)), default=None)

    @property
    def wrong(self) -> bool:
        """Whether somebody did other work than we did."""
        return any(entry.alike < self.least * entry.of for entry in self.entries)


class Result(msgspec.Struct, frozen=True):
    """One run. `date` is the UTC day."""

    date: str
    quick: bool
    machine: Machine
    outcomes: list[Outcome]

    @property
    def stem(self) -> str:
        """The name of the result's files without their endings."""
        return f"{self.date}-models-quick" if self.quick else f"{self.date}-models"


def rates(entry: Entry) -> Sequence[float]:
    return [turn.rate for turn in entry.turns]


def rate_ratio(ours: Entry, theirs: Entry) -> Spread:
    return ratio(rates(ours), rates(theirs))


def p95_ratio(ours: Entry, theirs: Entry) -> Spread:
    return ratio([turn.p95 for turn in ours.turns], [turn.p95 for turn in theirs.turns])
