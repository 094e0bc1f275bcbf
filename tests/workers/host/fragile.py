"""An engine whose jobs fail as their content says, and what comes of them in isolation."""

from dataclasses import dataclass, field

from shared.domain.errors import InputRefused
from workers.engines.base import Failed, Finished, Piece, Step, Work
from workers.host.isolation import Isolation

LETTERS = "abcdefghijklmnopqrstuvwxyz"


def work(job_id: str, content: object = "fine", length: int = 0) -> Work:
    return Work(job_id, content, {"length": length}, seed=1)


@dataclass
class Fragile:
    """Says `length` letters, one a step, then ends. A content of k raises at its k-th letter, from 0 on.

    `moods` raise (or not) before anything else, one a step; `width` jobs, the oldest, share a step.
    """

    continues: bool = True
    width: int = 10_000
    moods: list[BaseException | None] = field(default_factory=list)
    taken: list[str] = field(default_factory=list)
    works: dict[str, Work] = field(default_factory=dict)
    said: dict[str, int] = field(default_factory=dict)
    failures: int = 0
    rows: int = 0
    """Jobs in all steps, those that failed included."""
    admitted: int = 0
    closed: bool = False

    def admit(self, work: Work) -> None:
        assert work.id not in self.works
        assert work.text == LETTERS[: len(work.token_ids)]
        assert self.continues or not work.text
        if self.closed:
            raise InputRefused("closed")
        self.admitted += 1
        self.works[work.id] = work
        self.said[work.id] = len(work.token_ids)

    def cancel(self, job_id: str) -> None:
        self.works.pop(job_id, None)

    def step(self) -> Step:
        batch = list(self.works.values())[: self.width]
        self.rows += len(batch)
        self.taken = [one.id for one in batch]
        if self.moods and (mood := self.moods.pop(0)) is not None:
            self.failures += 1
            raise mood
        if any(w.content == self.said[w.id] for w in batch):
            self.failures += 1
            raise RuntimeError("the step broke")
        step = Step(batch_size=len(batch))
        for one in batch:
            said = self.said[one.id]
            if said < one.params["length"]:
                step.pieces.append(Piece(one.id, LETTERS[said], (said,)))
                self.said[one.id] += 1
            else:
                output = {"text": LETTERS[:said]}
                step.outcomes.append(Finished(one.id, output))
                self.cancel(one.id)
        return step

    def pending(self) -> int:
        return len(self.works)

    def batch_delay(self) -> float:
        return 1.0


@dataclass
class Ran:
    outcomes: dict[str, Finished | Failed] = field(default_factory=dict)
    texts: dict[str, str] = field(default_factory=dict)
    steps: int = 0

    def take(self, step: Step) -> None:
        self.steps += 1
        for piece in step.pieces:
            assert piece.id not in self.outcomes
            self.texts[piece.id] = self.texts.get(piece.id, "") + piece.text
        for outcome in step.outcomes:
            assert outcome.id not in self.outcomes
            self.outcomes[outcome.id] = outcome

    def codes(self) -> dict[str, str]:
        return {o.id: o.code for o in self.outcomes.values() if isinstance(o, Failed)}

    def finished(self) -> set[str]:
        return {o.id for o in self.outcomes.values() if isinstance(o, Finished)}


def drive(isolation: Isolation, ran: Ran | None = None) -> Ran:
    ran = ran or Ran()
    while isolation.pending():
        assert ran.steps < 2000
        ran.take(isolation.step())
    return ran


def serve(engine: Fragile, works: list[Work]) -> Ran:
    isolation = Isolation(engine, continues=engine.continues)
    for one in works:
        isolation.admit(one)
    ran = drive(isolation)
    assert engine.works == {}
    return ran


def batch(size: int, poisoned: set[int], at: int = 0, length: int = 0) -> list[Work]:
    return [work(str(n), at if n in poisoned else "fine", length) for n in range(size)]
