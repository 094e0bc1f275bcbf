"""Drives an engine as the host's loop does, and writes down what comes out."""

import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from msgspec.structs import replace

from shared.domain.events import Prefix
from shared.domain.parts import Message
from workers.engines.base import Engine, Failed, Finished, Piece, Step, Work

MOST_STEPS = 5000


@dataclass
class Ran:
    """Pieces and outcome of every job, and the steps it took."""

    pieces: dict[str, list[Piece]] = field(default_factory=dict)
    outcomes: dict[str, Finished | Failed] = field(default_factory=dict)
    steps: list[Step] = field(default_factory=list)

    def take(self, step: Step) -> None:
        """Note a step, and that no job says anything after its one outcome."""
        self.steps.append(step)
        for piece in step.pieces:
            assert piece.id not in self.outcomes, f"{piece.id} spoke after its outcome"
            self.pieces.setdefault(piece.id, []).append(piece)
        for outcome in step.outcomes:
            assert outcome.id not in self.outcomes, f"{outcome.id} ended twice"
            self.outcomes[outcome.id] = outcome

    def finished(self, job_id: str) -> Finished:
        outcome = self.outcomes[job_id]
        assert isinstance(outcome, Finished), outcome
        return outcome

    def text(self, job_id: str) -> str:
        text: str = self.finished(job_id).output["text"]
        return text

    def streamed(self, job_id: str, choice: int = 0) -> str:
        return prefix_of(self.pieces.get(job_id, []), choice).text


def drive(engine: Engine, works: Iterable[Work] = ()) -> Ran:
    """Admit the works and step until nothing is pending."""
    for work in works:
        engine.admit(work)
    ran = Ran()
    while engine.pending():
        assert len(ran.steps) < MOST_STEPS, f"{engine.pending()} jobs never end"
        ran.take(engine.step())
        if not ran.steps[-1].outcomes and not ran.steps[-1].pieces:
            time.sleep(engine.batch_delay())
    return ran


def resumed(work: Work, pieces: Iterable[Piece]) -> Work:
    """The next attempt at a job whose earlier one has streamed these pieces."""
    said = list(pieces)
    count = 1 + max((piece.choice for piece in said), default=0)
    first, *further = (prefix_of(said, choice) for choice in range(count))
    return replace(
        work,
        text=first.text,
        token_ids=first.token_ids,
        further=tuple(further),
        finish_reason=first.finish_reason,
    )


def message_of(pieces: Iterable[Piece], choice: int = 0) -> dict[str, Any]:
    """What the parts of these pieces add up to."""
    message = Message()
    for piece in pieces:
        if piece.choice == choice:
            message.add(piece.parts or ())
    return message.to_json()


def prefix_of(pieces: Iterable[Piece], choice: int = 0) -> Prefix:
    """What these pieces make of one text of their job."""
    said = [piece for piece in pieces if piece.choice == choice]
    return Prefix(
        "".join(piece.text for piece in said),
        tuple(token for piece in said for token in piece.token_ids),
        said[-1].finish_reason if said else "",
    )
