"""One line of the campaign's table, and the table."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from tests.chaos.arena import Arena
from tests.chaos.checker import Kind
from tests.chaos.recovery import quantile, recoveries

HEAD = (
    "#",
    "test",
    "n",
    "faults",
    "lost",
    "duplicated",
    "other",
    "p50 s",
    "p99 s",
    "verdict",
    "took s",
)


@dataclass(frozen=True, slots=True)
class Row:
    """What a scenario found. `n` is jobs; recovery is in seconds; `other` is gaps, repeats and the rest."""

    number: int
    title: str
    n: int
    faults: int
    lost: int
    duplicated: int
    other: int
    p50: float
    p99: float
    verdict: str
    seconds: float
    notes: list[str] = field(default_factory=list)

    @property
    def failed(self) -> bool:
        return self.verdict == "FAIL"

    @classmethod
    def of(cls, number: int, title: str, arena: Arena, seconds: float) -> "Row":
        """What became of a scenario."""
        kinds = [finding.kind for finding in arena.findings]
        lost, twice = kinds.count(Kind.LOST), kinds.count(Kind.DUPLICATED)
        samples = recoveries(arena.history)
        notes = [*arena.notes, *(f"FAILED: {failure}" for failure in arena.failures)]
        notes += [f"{f.kind}: {f.job} {f.detail}" for f in arena.findings[:10]]
        return cls(
            number=number,
            title=title,
            n=arena.jobs,
            faults=arena.faults,
            lost=lost,
            duplicated=twice,
            other=len(kinds) - lost - twice,
            p50=quantile(samples, 0.5),
            p99=quantile(samples, 0.99),
            verdict=_verdict(arena),
            seconds=round(seconds, 1),
            notes=notes,
        )

    @classmethod
    def skipped(cls, number: int, title: str, why: str) -> "Row":
        return cls(number, title, 0, 0, 0, 0, 0, math.nan, math.nan, "skipped", 0.0, [why])

    def cells(self) -> tuple[str, ...]:
        counts = map(str, (self.n, self.faults, self.lost, self.duplicated, self.other))
        times = (_seconds(self.p50), _seconds(self.p99))
        return (str(self.number), self.title, *counts, *times, self.verdict, f"{self.seconds:.0f}")


def _verdict(arena: Arena) -> str:
    if arena.failures or (arena.findings and not arena.excused):
        return "FAIL"
    return "measured" if arena.excused else "pass"


def table(rows: Sequence[Row]) -> str:
    """The rows as a Markdown table, then what they have to say."""
    lines = [HEAD, *(row.cells() for row in rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(HEAD))]
    text = [_line(lines[0], widths), "|" + "|".join("-" * (w + 2) for w in widths) + "|"]
    text += [_line(line, widths) for line in lines[1:]]
    for row in rows:
        text += [f"- {row.number}: {note}" for note in row.notes]
    return "\n".join(text)


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    padded = (cell.ljust(width) for cell, width in zip(cells, widths, strict=True))
    return "| " + " | ".join(padded) + " |"


def _seconds(value: float) -> str:
    return "–" if math.isnan(value) else "never" if math.isinf(value) else f"{value:.1f}"
