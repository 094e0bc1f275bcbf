"""What a run of the harness brought, as it is written to `bench/results/*.json`."""

import statistics

import msgspec

from bench.contests import Plan
from bench.figures import Spread, ratio
from bench.machine import Machine
from bench.turn import Turn


class Entry(msgspec.Struct, frozen=True):
    """A subject in one variant, and its turns, one a round."""

    name: str
    variant: str
    settings: str
    turns: list[Turn]

    @property
    def rates(self) -> list[float]:
        """Answers a second, round by round."""
        return [turn.report.rate for turn in self.turns]


class Compared(msgspec.Struct, frozen=True):
    """Ours over a peer's best variant, by answers a second."""

    peer: str
    variant: str
    ratio: Spread


class Outcome(msgspec.Struct, frozen=True):
    """One contest. The first entry is ours."""

    contest: str
    title: str
    clients: int
    entries: list[Entry]
    compared: list[Compared]


class Result(msgspec.Struct, frozen=True):
    """One run. `date` is the UTC day."""

    date: str
    quick: bool
    plan: Plan
    machine: Machine
    outcomes: list[Outcome]

    @property
    def stem(self) -> str:
        """The name of the result's files without their endings."""
        return f"{self.date}-quick" if self.quick else self.date


def compare(entries: list[Entry]) -> list[Compared]:
    """The first entry against each peer; a peer's figure is that of its best variant."""
    ours, *others = entries
    best: dict[str, Entry] = {}
    for entry in others:
        known = best.get(entry.name)
        if known is None or statistics.median(entry.rates) > statistics.median(known.rates):
            best[entry.name] = entry
    return [
        Compared(name, entry.variant, ratio(ours.rates, entry.rates))
        for name, entry in best.items()
    ]
