"""What is compared with what, and how long each turn is."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import msgspec

from bench.subjects import Subject
from bench.subjects.flask_celery import FlaskCelery
from bench.subjects.ours import Ours


class Plan(msgspec.Struct, frozen=True):
    """Rounds, and for each turn the seconds before and within the measured time."""

    rounds: int
    warm_up: float
    seconds: float


@dataclass(frozen=True, slots=True)
class Contest:
    """One kind of work that all subjects do in turn.

    `ours` comes first in a round. A peer measured in several variants counts with its best one.
    `more` are variants for the long run only.
    """

    name: str
    title: str
    clients: int
    ours: Callable[[], Subject]
    peers: tuple[Callable[[], Subject], ...]
    more: tuple[Callable[[], Subject], ...] = ()

    def subjects(self, quick: bool) -> list[Subject]:
        """New subjects in the order of a round."""
        return [make() for make in (self.ours, *self.peers, *(() if quick else self.more))]


QUICK = Plan(rounds=2, warm_up=2.0, seconds=10.0)
FULL = Plan(rounds=3, warm_up=3.0, seconds=20.0)

CONTESTS = (
    Contest(
        name="infer",
        title="Jobs a second through an echo model, from submit to result",
        clients=64,
        ours=Ours,
        peers=(partial(FlaskCelery, poll=0.05), partial(FlaskCelery, poll=None)),
        more=(partial(FlaskCelery, poll=0.02), partial(FlaskCelery, poll=0.1)),
    ),
)
