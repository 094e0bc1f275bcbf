"""Isolates faults: finds the job that makes a step fail, so that it ends alone and the others go on.

A step that raises has committed nothing. Where a search would throw work away, or the fault is one that
passes, it is run once more as it was; else the search is the second try. Engines know only admit, cancel
and step, so jobs are taken out with `cancel` and admitted again later, with all that they have said since
as a forced prefix: their stream has no seam and they are charged nothing.

Memory that runs out is nobody's fault at first: the engine's budget is halved and the step run again.
Only a job that does not fit alone, in a step as small as can be, ends for it.
"""

import logging
import math
from collections.abc import Callable, Iterable

import msgspec

from workers.engines.base import Engine, Failed, Finished, Step, Work
from workers.engines.batching.admission import refused
from workers.engines.batching.budget import Budget
from workers.engines.faults import device_lost, reclaim
from workers.host.blame import Evidence, Fault
from workers.host.isolated_job import IsolatedJob
from workers.host.search import Search

_log = logging.getLogger(__name__)


class Isolation:
    """An engine whose `step` raises nothing but `DeviceLost`: stands between the loop and the real one.

    Culprits come out as `Failed` with `poison_input`; where nothing shows that the engine is well, now or by
    the `evidence` of the last minute, with `engine_error`, which is tried again; what does not fit into
    memory alone, with `out_of_memory`. Jobs that come during a search wait outside until it is over.
    `remember` is called with the engine's budget when it has changed.

    A job that has streamed and has to leave an engine that cannot continue it (`continues`) ends with
    `engine_error`: only a new attempt can tell its readers to start over, and as the attempt is
    charged, a culprit among such jobs comes to its end.
    """

    def __init__(
        self,
        engine: Engine,
        evidence: Evidence | None = None,
        *,
        continues: bool,
        remember: Callable[[Budget], None] = lambda _budget: None,
    ) -> None:
        self._engine = engine
        self._evidence = evidence or Evidence()
        self._continues = continues
        self._remember = remember
        self._budget: Budget | None = getattr(engine, "budget", None)
        self._jobs: dict[str, IsolatedJob] = {}
        self._inside: set[str] = set()
        """The ids of `_jobs` that the engine has."""
        self._search: Search | None = None
        self._failed_once = False
        self._idle = False  # The last step took nobody: inputs are still being read.
        self._fault = Fault()
        self._faults: dict[str, Fault] = {}
        """What came up when a job was tried alone."""
        self._starved: set[str] = set()
        """Jobs that ran out of memory alone."""
        self._failures: list[Failed] = []

    def admit(self, work: Work) -> None:
        """Take a job in. Raises what the engine raises; nothing is kept then."""
        if self._search is None:
            self._engine.admit(work)
            self._inside.add(work.id)
        self._jobs[work.id] = IsolatedJob(work)

    def cancel(self, job_id: str) -> None:
        if self._jobs.pop(job_id, None) is None:
            return
        if job_id in self._inside:
            self._inside.remove(job_id)
            self._engine.cancel(job_id)
        self._starved.discard(job_id)
        self._faults.pop(job_id, None)
        if self._search is not None:
            self._search.drop(job_id)

    def step(self) -> Step:
        """Advance once: a step of the engine with whoever is inside."""
        self._arrange()
        step = self._run() if self._inside else Step()
        if self._failures:
            step = msgspec.structs.replace(step, outcomes=[*step.outcomes, *self._failures])
            self._failures = []
        return step

    def pending(self) -> int:
        return len(self._jobs) + len(self._failures)

    @property
    def budget(self) -> float | None:
        """What a step may take now, None where there is no bound."""
        now = self._budget.now if self._budget is not None else math.inf
        return None if math.isinf(now) else now

    def batch_delay(self) -> float:
        at_once = (self._search is not None or self._failed_once) and not self._idle
        return 0.0 if at_once else self._engine.batch_delay()

    def _run(self) -> Step:
        fault, self._idle = None, False
        try:
            step = self._engine.step()
        except BaseException as error:
            if (lost := device_lost(error)) is not None:
                raise lost from error
            fault = self._note(error)
        if fault is not None:
            self._failed(fault)
            return Step()
        self._idle = not (step.pieces or step.outcomes or getattr(self._engine, "taken", True))
        if self._idle:
            return step  # Nothing was tried, so it tells nothing.
        self._failed_once = False
        if self._budget is not None and self._budget.passed():
            self._remember(self._budget)
        self._passed(step)
        return step

    def _note(self, error: BaseException) -> Fault:
        fault = Fault.of(error)
        if self._search is None and not self._failed_once:
            # A log record must not hold the traceback's tensors either.
            trace = None if fault.memory else error
            _log.error(
                "a step with %d jobs failed: %s", len(self._inside), fault.summary, exc_info=trace
            )
        return fault

    def _failed(self, fault: Fault) -> None:
        self._fault = fault
        if fault.memory and self._shrink():
            return
        group = self._suspects()
        if self._search is None and not self._failed_once and self._worth_repeating(fault, group):
            _log.warning("running it once more")
            self._failed_once = True
            return
        if len(group) == 1:
            self._faults[group[0]] = fault
            if fault.memory:
                self._starved.update(group)
        if self._search is not None:
            self._search.failed()
        else:
            _log.error("searching %d jobs for the culprit (%s)", len(group), fault.summary)
            self._failed_once = False
            self._search = Search(group, [job for job in group if not self._jobs[job].heard])
        self._judge(self._search)

    def _suspects(self) -> list[str]:
        """The jobs that the step took, where the engine tells; all that it has where it does not."""
        inside = [job for job in self._jobs if job in self._inside]
        taken = frozenset(getattr(self._engine, "taken", ()))
        return [job for job in inside if job in taken] or inside

    def _worth_repeating(self, fault: Fault, group: list[str]) -> bool:
        """Whether the same step again is the better second try than a search.

        A search makes those who have said something leave what the engine has computed for them, and
        their attempt where it cannot go on with a stream; of a lone job it would learn nothing.
        """
        return fault.passing or len(group) == 1 or any(self._jobs[job].heard for job in group)

    def _shrink(self) -> bool:
        """Make room in memory. True when the next step will be smaller than the one that failed."""
        reclaim()
        if self._budget is None or not self._budget.shrink():
            return False
        _log.warning("out of memory; the budget of a step is %g now", self._budget.now)
        self._remember(self._budget)
        return True

    def _passed(self, step: Step) -> None:
        for piece in step.pieces:
            if (kept := self._jobs.get(piece.id)) is not None:
                kept.say(piece)
        for outcome in step.outcomes:
            self._forget(outcome.id)
        if self._search is not None:
            ended = {outcome.id for outcome in step.outcomes}
            heard = ended | {piece.id for piece in step.pieces}
            well = step.pieces or any(isinstance(end, Finished) for end in step.outcomes)
            self._search.ran(heard, ended, healthy=bool(well))
            self._judge(self._search)

    def _judge(self, search: Search) -> None:
        for job in [job for job in (*search.poison, *search.unlucky) if job in self._starved]:
            (search.poison if job in search.poison else search.unlucky).remove(job)
            _log.error("%s does not fit into memory, not even alone", job)
            message = "The model ran out of memory on this job alone."
            self._fail(Failed(job, "out_of_memory", message))
        for job in search.poison:
            self._blame(job)
        for job in search.unlucky:
            fault = self._faults.get(job, self._fault)
            if fault.at_admission or (fault.shaped and self._evidence.lately_well):
                self._blame(job)
            else:
                message = f"The model failed: {fault.summary}"
                self._fail(Failed(job, "engine_error", message, fault.shaped))
        search.poison, search.unlucky = [], []
        if search.over:
            self._search = None

    def _blame(self, job: str) -> None:
        fault = self._faults.get(job, self._fault)
        _log.error("%s makes the model fail (%s)", job, fault.summary)
        self._fail(Failed(job, fault.code, fault.message))

    def _arrange(self) -> None:
        """Have exactly those inside the engine who should take part in the next step."""
        if len(self._inside) == len(self._jobs) and self._search is None:
            return
        while True:
            if self._search is not None:
                self._judge(self._search)
            wanted = list(self._jobs) if self._search is None else self._search.trial
            self._take_out(self._inside.difference(wanted))
            self._put_in([job for job in wanted if job not in self._inside])
            # A trial may lose its last job on the way in: then there is another one, or none is left.
            if self._search is None or self._inside:
                return

    def _take_out(self, jobs: Iterable[str]) -> None:
        for job in jobs:
            self._inside.remove(job)
            self._engine.cancel(job)
            kept = self._jobs[job]
            if kept.outputs or (kept.said and not self._continues):
                message = f"The model failed, and cannot go on with this job's stream: {self._fault.summary}"
                self._drop(Failed(job, "engine_error", message))

    def _put_in(self, jobs: Iterable[str]) -> None:
        for job in jobs:
            try:
                self._engine.admit(self._jobs[job].again())
            except BaseException as error:  # noqa: BLE001 - whatever the engine raises, the loop lives on
                self._drop(refused(job, error))
            else:
                self._inside.add(job)

    def _drop(self, failed: Failed) -> None:
        self._fail(failed)
        if self._search is not None:
            self._search.drop(failed.id)

    def _fail(self, failed: Failed) -> None:
        if failed.id in self._inside:
            self._engine.cancel(failed.id)
        self._forget(failed.id)
        self._failures.append(failed)

    def _forget(self, job_id: str) -> None:
        self._jobs.pop(job_id, None)
        self._inside.discard(job_id)
        self._starved.discard(job_id)
        self._faults.pop(job_id, None)
