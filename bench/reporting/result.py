"""What a run of the harness brought, as it is written to `bench/results/*.json`."""

import statistics
from collections.abc import Iterable, Sequence

import msgspec

from bench.contests import Plan
from bench.reporting.figures import Spread, ratio, spread
from bench.reporting.goals import DURABLE, FIGURES, Goal
from bench.reporting.machine import Machine
from bench.turn import Turn


class Entry(msgspec.Struct, frozen=True):
    """A subject in one variant, and its turns, one a round."""

    name: str
    variant: str
    settings: str
    turns: list[Turn]
    durable: bool = True

    def values(self, figure: str) -> list[float]:
        """One of `FIGURES`, round by round."""
        return [FIGURES[figure].of(turn) for turn in self.turns]


class Compared(msgspec.Struct, frozen=True):
    """Ours over a peer's best variant in one figure, or our own figure where there is no peer.

    `reached` is None where the peer was not measured. `met` is None without a goal or a figure.
    """

    peer: str
    variant: str
    figure: str = "rate"
    reached: Spread | None = None
    goal: Goal | None = None
    met: bool | None = None


class Outcome(msgspec.Struct, frozen=True):
    """One contest. The first entry is ours. `arrivals` are a second, None in a closed loop.

    `left_out` says of peers that were not measured why.
    """

    contest: str
    title: str
    clients: int
    entries: list[Entry]
    compared: list[Compared]
    figure: str = "rate"
    arrivals: float | None = None
    left_out: dict[str, str] = {}


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
        shape = "" if self.plan.shape == "client" else f"-{self.plan.shape}"
        return f"{self.date}{'-quick' if self.quick else ''}{shape}"


def compare(entries: Sequence[Entry], figure: str, goals: Iterable[Goal] = ()) -> list[Compared]:
    """The first entry against what the goals name, then against all other peers in `figure`."""
    ours, *others = entries
    compared = [_judge(ours, others, goal) for goal in goals]
    known = {(one.figure, one.peer) for one in compared}
    for name in dict.fromkeys(entry.name for entry in others):
        if (figure, name) not in known:
            peer = best([entry for entry in others if entry.name == name], figure)
            reached = ratio(ours.values(figure), peer.values(figure))
            compared.append(Compared(name, peer.variant, figure, reached))
    return compared


def best(entries: Iterable[Entry], figure: str) -> Entry:
    """The entry with the best median. Raises `ValueError` where there is none."""
    sign = -1 if FIGURES[figure].more_is_better else 1
    return min(entries, key=lambda entry: sign * statistics.median(entry.values(figure)))


def _judge(ours: Entry, others: Sequence[Entry], goal: Goal) -> Compared:
    mine = ours.values(goal.figure)
    if goal.peer is None:
        reached = spread(mine)
        return Compared("", "", goal.figure, reached, goal, goal.met(reached.median))
    named = [e for e in others if e.name == goal.peer or (goal.peer == DURABLE and e.durable)]
    if not named:
        return Compared(goal.peer, "", goal.figure, None, goal)
    peer = best(named, goal.figure)
    variant = f"{peer.name}, {peer.variant}" if goal.peer == DURABLE else peer.variant
    reached = ratio(mine, peer.values(goal.figure))
    return Compared(goal.peer, variant, goal.figure, reached, goal, goal.met(reached.median))
