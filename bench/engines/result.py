"""What a run of the engines brought, as it is written to `bench/results/*-engines.json`."""

from collections.abc import Sequence

import msgspec

from bench.engines.plan import Plan
from bench.reporting.figures import Spread, ratio
from bench.reporting.machine import Machine


class Series(msgspec.Struct, frozen=True):
    """One figure of one subject, round by round. A dear subject is measured in the first rounds alone."""

    subject: str
    figure: str
    values: list[float]
    digits: int = 1


class Ratio(msgspec.Struct, frozen=True):
    """Ours over another. `goal` is what was aimed at, as it is printed."""

    figure: str
    goal: str
    value: Spread
    digits: int = 2


class Alike(msgspec.Struct, frozen=True):
    """How many answers of two ways are the same. `wanted`: all of them must be, or we did wrong."""

    figure: str
    same: int
    of: int
    wanted: bool = True

    @property
    def wrong(self) -> bool:
        return self.wanted and self.same != self.of


class Part(msgspec.Struct, frozen=True):
    name: str
    title: str
    series: list[Series]
    ratios: list[Ratio]
    alike: list[Alike]
    settings: list[str]


class Result(msgspec.Struct, frozen=True):
    """One run. `date` is the UTC day; `only`, the parts that were measured, joined by "-", "" for all."""

    date: str
    quick: bool
    plan: Plan
    machine: Machine
    parts: list[Part]
    only: str = ""

    @property
    def stem(self) -> str:
        """The name of the result's files without their endings; some parts alone replace no whole run's."""
        quick, only = "-quick" if self.quick else "", f"-{self.only}" if self.only else ""
        return f"{self.date}-engines{quick}{only}"

    @property
    def wrong(self) -> bool:
        return any(alike.wrong for part in self.parts for alike in part.alike)


def common(ours: Sequence[float], theirs: Sequence[float]) -> Spread:
    """The ratio over the rounds that both have been through."""
    rounds = min(len(ours), len(theirs))
    return ratio(ours[:rounds], theirs[:rounds])


def same(ours: Sequence[object], theirs: Sequence[object]) -> int:
    """How many of the answers that both have are equal."""
    return sum(mine == other for mine, other in zip(ours, theirs, strict=False))
