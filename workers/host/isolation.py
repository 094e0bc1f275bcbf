"""Fault isolation: finds the job that makes a step fail, so that it ends alone and the others go on.

A step that raises has committed nothing, so it is run once more as it was: a passing fault passes. If it
fails again the batch is searched by halves. Engines know only admit, cancel and step, so jobs are taken
out with `cancel` and admitted again later, with all that they have said since as a forced prefix: their
stream has no seam and they are charged nothing.
"""

import logging
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace

from shared.errors import InputRefused, JobsError
from workers.engines.base import Broke, Engine, Finished, Piece, Step, Work

SICK_AFTER = 3
"""Jobs that failed alone, one after the other: more likely the engine than its input."""
PATIENCE = 64
"""Steps in which nobody under trial says anything, after which the trial counts as passed."""

_log = logging.getLogger(__name__)


class Search:
    """Which of these jobs fails? Decides who is tried next; pure, over ids.

    `group` is known to fail together. Try `trial` alone in the engine and say `failed` or `ran`, until
    `over`. For n jobs, every culprit costs at most log2(n) + 2 steps that fail.

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
        middle = (len(group) + 1) // 2
        return group[:middle], group[middle:]

    def _next(self) -> None:
        self._rest = []
        # Where one after the other fails alone, halves only add steps.
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


@dataclass(slots=True)
class Held:
    """A job that has had no outcome yet, and what it said since it was admitted first."""

    work: Work
    text: list[str] = field(default_factory=list)
    token_ids: list[int] = field(default_factory=list)
    outputs: int = 0

    @property
    def heard(self) -> bool:
        return bool(self.text or self.outputs)

    def say(self, piece: Piece) -> None:
        if piece.text:
            self.text.append(piece.text)
            self.token_ids += piece.token_ids
        else:
            self.outputs += 1

    def continued(self) -> Work:
        """The work with all that was streamed as its forced prefix."""
        if not self.text:
            return self.work
        text = self.work.text + "".join(self.text)
        return replace(self.work, text=text, token_ids=(*self.work.token_ids, *self.token_ids))


class Isolation:
    """An engine whose `step` never raises: stands between the loop and the real one.

    Culprits come out as `Broke` with `poison_input`; where nothing shows that the engine is well, with
    `engine_error`, which is tried again. Jobs that come during a search wait outside until it is over.

    A job that has streamed and has to leave an engine that cannot continue it (`continues`) ends with
    `engine_error`: only a new attempt can tell its readers to start over, and as the attempt is
    charged, a culprit among such jobs comes to its end.
    """

    def __init__(self, engine: Engine, *, continues: bool) -> None:
        self._engine = engine
        self._continues = continues
        self._held: dict[str, Held] = {}
        self._inside: set[str] = set()
        """Those of `_held` that the engine has."""
        self._search: Search | None = None
        self._failed_once = False
        self._fault = ""
        self._broken: list[Broke] = []

    def admit(self, work: Work) -> None:
        """Take a job in. Raises what the engine raises; nothing is kept then."""
        if self._search is None:
            self._engine.admit(work)
            self._inside.add(work.id)
        self._held[work.id] = Held(work)

    def cancel(self, job_id: str) -> None:
        if self._held.pop(job_id, None) is None:
            return
        if job_id in self._inside:
            self._inside.remove(job_id)
            self._engine.cancel(job_id)
        if self._search is not None:
            self._search.drop(job_id)

    def step(self) -> Step:
        """Advance once: a step of the engine with whoever is inside."""
        self._arrange()
        step = self._run() if self._inside else Step()
        if self._broken:
            step = replace(step, outcomes=[*step.outcomes, *self._broken])
            self._broken = []
        return step

    def pending(self) -> int:
        return len(self._held) + len(self._broken)

    def linger(self) -> float:
        return 0.0 if self._search is not None or self._failed_once else self._engine.linger()

    def _run(self) -> Step:
        try:
            step = self._engine.step()
        except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever it raises, the loop lives on
            self._failed(error)
            return Step()
        self._failed_once = False
        self._passed(step)
        return step

    def _failed(self, error: BaseException) -> None:
        # Only what was written for clients is told to them; the log has the rest.
        self._fault = error.detail if isinstance(error, JobsError) else type(error).__name__
        if self._search is not None:
            self._search.failed()
        elif not self._failed_once:
            _log.exception("a step with %d jobs failed; once more", len(self._inside))
            self._failed_once = True
            return
        else:
            _log.error("it failed again (%s); searching for the culprit", self._fault)
            self._failed_once = False
            group = [job for job in self._held if job in self._inside]
            fresh = [job for job in group if not self._held[job].heard]
            self._search = Search(group, fresh)
        self._judge(self._search)

    def _passed(self, step: Step) -> None:
        for piece in step.pieces:
            if (held := self._held.get(piece.id)) is not None:
                held.say(piece)
        for outcome in step.outcomes:
            self._forget(outcome.id)
        if self._search is not None:
            ended = {outcome.id for outcome in step.outcomes}
            heard = ended | {piece.id for piece in step.pieces}
            well = step.pieces or any(isinstance(end, Finished) for end in step.outcomes)
            self._search.ran(heard, ended, healthy=bool(well))
            self._judge(self._search)

    def _judge(self, search: Search) -> None:
        for job in search.poison:
            _log.error("%s makes the model fail (%s)", job, self._fault)
            self._break(job, "poison_input", f"The model fails on this input: {self._fault}")
        for job in search.unlucky:
            self._break(job, "engine_error", f"The model failed: {self._fault}")
        search.poison, search.unlucky = [], []
        if search.over:
            self._search = None

    def _arrange(self) -> None:
        """Have exactly those inside the engine who should take part in the next step."""
        if len(self._inside) == len(self._held) and self._search is None:
            return
        while True:
            if self._search is not None:
                self._judge(self._search)
            wanted = list(self._held) if self._search is None else self._search.trial
            self._take_out(self._inside.difference(wanted))
            self._put_in([job for job in wanted if job not in self._inside])
            # A trial may lose its last job on the way in: then there is another one, or none is left.
            if self._search is None or self._inside:
                return

    def _take_out(self, jobs: Iterable[str]) -> None:
        for job in jobs:
            self._inside.remove(job)
            self._engine.cancel(job)
            held = self._held[job]
            if held.outputs or (held.text and not self._continues):
                message = (
                    f"The model failed, and cannot go on with this job's stream: {self._fault}"
                )
                self._lose(job, "engine_error", message)

    def _put_in(self, jobs: Iterable[str]) -> None:
        for job in jobs:
            try:
                self._engine.admit(self._held[job].continued())
            except InputRefused as error:
                self._lose(job, error.code, error.detail)
            except Exception as error:  # noqa: BLE001 - whatever the engine raises, the loop lives on
                _log.exception("admitting %s failed", job)
                self._lose(job, "engine_error", type(error).__name__)
            else:
                self._inside.add(job)

    def _lose(self, job_id: str, code: str, message: str) -> None:
        self._break(job_id, code, message)
        if self._search is not None:
            self._search.drop(job_id)

    def _break(self, job_id: str, code: str, message: str) -> None:
        if job_id in self._inside:
            self._engine.cancel(job_id)
        self._forget(job_id)
        self._broken.append(Broke(job_id, code, message))

    def _forget(self, job_id: str) -> None:
        self._held.pop(job_id, None)
        self._inside.discard(job_id)
