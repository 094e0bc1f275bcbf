"""One step of a batch: claimed, carried out, written down. Nothing of it is remembered from step to step.

A step makes jobs or stores a part first and is written down then, so what a crash leaves is repeated by who
claims the batch next: jobs by the same ids, parts under other names.
"""

import logging
import time
from collections.abc import Iterator
from typing import Any

from api.batches.answers import CANCELLED, EXPIRED, AnswerLine
from api.batches.broken_steps import BrokenSteps
from api.batches.commits import Commits, Lost
from api.batches.finishing import Finisher
from api.batches.jobs import Later, LineJobs
from api.batches.lines import Line, LineFault, Request, lines, request_of
from api.batches.part import remove_parts
from api.batches.validation import Fault, Validator, to_errors
from api.services import Services
from shared.domain.batches import Batch, BatchStatus
from shared.domain.errors import JobsError
from shared.domain.files import place_of
from shared.faults import faults
from shared.files import FileGone, Storage, StorageUnavailable
from shared.store.batches import ClaimedBatch, Live, Step

LEASES = 2
"""Leases of a job after which a batch is somebody else's, unless a step was written down."""
AT_ONCE = 128
"""Lines that a step gathers, and lines of which it makes jobs."""
WORTH_GATHERING = 64
"""Ended jobs that are gathered at once; fewer wait for more, for `LONGEST_WAIT` seconds."""
LONGEST_WAIT = 2.0
LIVE_BYTES = 32 * 1024 * 1024
"""Of requests that may wait in Redis at once, and of results that a step takes out."""
CLOSED_AT_ONCE = 2000
"""Lines that are told in one step to have had no answer."""
BUSY, QUIET, AWAY = 0.05, 0.5, 5.0
"""Seconds to the next step: where the last brought something, where it did not, where something is away."""

_log = logging.getLogger(__name__)


class Steps:
    """Works on batches of all tenants. `most_live`: jobs of one batch that wait or run at once."""

    def __init__(self, services: Services, most_live: int) -> None:
        self._services = services
        self._settings = services.settings
        self._batches = services.batches
        self._storage: Storage = services.storage
        self._most_live = most_live
        self._lease = LEASES * services.settings.lease
        self._commits = Commits(services, self._lease)
        self._finisher = Finisher(services.files, self._storage, services.settings.file_retention)
        self._broken = BrokenSteps(services.batches, services.observers)

    def step(self) -> bool:
        """Do one step of the batch that is due. False where none is. Raises `JobsError` of an outage."""
        claimed = self._batches.claim(self._lease)
        if claimed is None:
            return False
        faults.reach("batch_claimed")
        try:
            self._carry_out(claimed)
        except Lost:
            _log.info("%s was taken or cancelled meanwhile", claimed.batch.id)
        except StorageUnavailable as error:
            _log.warning(
                "%s waits for the file storage: %s", claimed.batch.id, error.__cause__ or error
            )
            self._batches.commit(claimed, Step(), AWAY)
        except FileGone:
            _log.error("%s: its input is gone from the file storage", claimed.batch.id)
            self._give_up(claimed)
        except JobsError:
            raise
        except Exception as error:  # noqa: BLE001 - one batch's fault is that batch's alone
            self._broken.record(claimed, error)
        return True

    def _carry_out(self, claimed: ClaimedBatch) -> None:
        batch = claimed.batch
        match batch.status:
            case BatchStatus.VALIDATING | BatchStatus.IN_PROGRESS if time.time() >= batch.expires:
                fields = {"status": BatchStatus.FINALIZING.value, "ending": "expired"}
                self._commits.commit(claimed, Step({**fields, "finalizing_at": str(_now())}), 0)
            case BatchStatus.VALIDATING:
                self._validate(claimed)
            case BatchStatus.IN_PROGRESS:
                self._progress(claimed)
            case BatchStatus.CANCELLING | BatchStatus.FINALIZING:
                self._end(claimed)
            case _:
                self._close(claimed)

    # -- before jobs are made

    def _validate(self, claimed: ClaimedBatch) -> None:
        settings, batch = self._settings, claimed.batch
        validator = Validator(
            batch,
            self._services.catalog,
            settings.max_body_bytes,
            settings.max_body_values,
            self._commits.renewal(claimed),
        )
        verdict = validator.run(self._storage)
        if verdict.faults:
            self._finish(claimed, BatchStatus.FAILED, {"errors": to_errors(verdict.faults)})
            return
        started = {"status": BatchStatus.IN_PROGRESS.value, "in_progress_at": _now()}
        self._commits.commit(claimed, Step({**started, "total": verdict.total}), 0)

    # -- while jobs are made and gathered

    def _progress(self, claimed: ClaimedBatch) -> None:
        jobs = LineJobs(self._services, claimed.batch)
        gathered = self._gather(claimed, jobs, patient=True)
        left = {line: live for line, live in claimed.live.items() if line not in gathered}
        made, answers, at, pause = self._fill(claimed, jobs, left)
        batch = claimed.batch
        fields: dict[str, Any] = dict(at)
        answers = [*gathered.values(), *answers]
        line = at.get("line", batch.line)
        if line >= batch.total and not left and not made:
            fields |= {"status": BatchStatus.FINALIZING.value, "finalizing_at": _now()}
            pause = 0.0
        elif pause is None:
            full = len(gathered) >= AT_ONCE or len(made) >= AT_ONCE
            pause = 0.0 if full else BUSY if gathered or made else QUIET
        try:
            self._commits.write(claimed, Step(fields, made), answers, gathered, pause)
        except Lost:
            if self._commits.cancelled(claimed):
                # Nobody else knows of them, and who closes the batch answers their lines without them.
                jobs.cancel(made)
            raise
        jobs.forget(gathered)

    def _gather(
        self, claimed: ClaimedBatch, jobs: LineJobs, *, patient: bool
    ) -> dict[int, AnswerLine]:
        """Answers of jobs that have ended. A job that is gone is made anew, unless the batch ends."""
        batch, live = claimed.batch, claimed.live
        ended, gone = jobs.ended(live)
        for line in gone:
            self._make_anew(claimed, jobs, line)
        waits = len(ended) < WORTH_GATHERING and len(ended) < len(live)
        if patient and waits and time.time() - batch.part_at < LONGEST_WAIT:
            return {}
        taken, size = dict[int, str](), 0
        for line, output in sorted(ended.items()):
            if taken and (len(taken) == AT_ONCE or size + output > LIVE_BYTES):
                break
            taken[line], size = live[line].custom_id, size + output
        answers = jobs.answers(taken, batch.ending)
        if batch.ending:
            why = CANCELLED if batch.ending == "cancelled" else EXPIRED
            for line in gone[: AT_ONCE - len(answers)]:
                answers[line] = jobs.unanswered(line, live[line].custom_id, why)
        return answers

    def _make_anew(self, claimed: ClaimedBatch, jobs: LineJobs, line: int) -> None:
        """Its record has expired, or Redis has forgotten it."""
        if claimed.batch.ending:
            return
        live = claimed.live[line]
        place = place_of(claimed.batch.input_file)
        data = self._storage.read(place, live.offset, live.offset + live.length)
        asked = self._request(Line(line, live.offset, live.length, data.strip()))
        try:
            jobs.make(line, asked.custom_id, asked.body, time.time())
        except Later as later:
            _log.info("%s: line %d waits: %s", claimed.batch.id, line + 1, later)

    def _fill(
        self, claimed: ClaimedBatch, jobs: LineJobs, left: dict[int, Live]
    ) -> tuple[dict[int, Live], list[AnswerLine], dict[str, int], float | None]:
        """Make jobs of the next lines while there is room.

        Returns them, answers of lines that make none, how far the input was read, and when to come again
        where no more could be made.
        """
        batch = claimed.batch
        made, answers, at = dict[int, Live](), list[AnswerLine](), dict[str, int]()
        size = sum(live.length for live in left.values())
        for line in self._lines(batch):
            full = len(left) + len(made) >= self._most_live or len(made) + len(answers) >= AT_ONCE
            if full or (size and size + line.length > LIVE_BYTES):
                break
            asked = self._request(line)
            try:
                refused = jobs.make(line.number, asked.custom_id, asked.body, time.time())
            except Later as later:
                _log.info("%s waits at line %d: %s", batch.id, line.number + 1, later)
                return made, answers, at, min(AWAY, later.seconds)
            if refused is not None:
                answers.append(refused)
            else:
                made[line.number] = Live(line.offset, line.length, asked.custom_id)
                size += line.length
            at = {"line": line.number + 1, "offset": line.end}
        faults.reach("batch_filled")
        return made, answers, at, None

    # -- when no more jobs are made

    def _end(self, claimed: ClaimedBatch) -> None:
        batch, jobs = claimed.batch, LineJobs(self._services, claimed.batch)
        if claimed.live:
            if batch.ending:
                jobs.cancel(claimed.live)
            gathered = self._gather(claimed, jobs, patient=False)
            pause = BUSY if gathered else QUIET
            self._commits.write(claimed, Step(), list(gathered.values()), gathered, pause)
            jobs.forget(gathered)
        elif batch.ending and batch.line < batch.total:
            self._answer_rest(claimed, jobs)
        else:
            self._finish(claimed, BatchStatus(batch.ending or BatchStatus.COMPLETED), {})

    def _answer_rest(self, claimed: ClaimedBatch, jobs: LineJobs) -> None:
        """Tell of the next lines, of which no job was made, that they have no answer."""
        batch, answers, at = claimed.batch, list[AnswerLine](), dict[str, int]()
        why = CANCELLED if batch.ending == "cancelled" else EXPIRED
        for line in self._lines(batch):
            if len(answers) == CLOSED_AT_ONCE:
                break
            answers.append(jobs.unanswered(line.number, self._request(line).custom_id, why))
            at = {"line": line.number + 1, "offset": line.end}
        self._commits.write(claimed, Step(at or {"line": batch.total}), answers, (), 0)

    def _give_up(self, claimed: ClaimedBatch) -> None:
        """Its input cannot be read: what is finished stays, and no more is made."""
        fault = Fault("input_file_gone", "The input file is gone from the file storage.")
        fields = {
            "status": BatchStatus.FINALIZING.value,
            "ending": BatchStatus.FAILED.value,
            "line": claimed.batch.total,
            "finalizing_at": _now(),
            "errors": to_errors([fault]),
        }
        self._batches.commit(claimed, Step(fields), 0)

    def _finish(self, claimed: ClaimedBatch, status: BatchStatus, fields: dict[str, str]) -> None:
        """Store the files of a batch and end it."""
        parts = self._batches.parts(claimed.batch.id)
        named = self._finisher.files(claimed.batch, parts, self._commits.renewal(claimed))
        faults.reach("batch_finished")
        ended = {**fields, **named, "status": status.value, f"{status.value}_at": _now()}
        self._commits.commit(claimed, Step(ended), 0)

    def _close(self, claimed: ClaimedBatch) -> None:
        """Tell of the end, and remove what only a batch that goes on needs. It may be repeated."""
        batch = claimed.batch
        self._services.outbox.tell(batch.tenant, batch.id, f"batch.{batch.status.value}")
        remove_parts(self._storage, batch)
        self._commits.commit(claimed, Step(closes=True), 0)
        self._services.observers.emit("batch_ended_as", batch.status.value)

    # -- parts of all steps

    def _lines(self, batch: Batch) -> Iterator[Line]:
        return lines(
            self._storage,
            place_of(batch.input_file),
            batch.input_bytes,
            self._settings.max_body_bytes,
            batch.line,
            batch.offset,
        )

    def _request(self, line: Line) -> Request:
        """What a line asks that was found to be good before."""
        try:
            return request_of(line, self._settings.max_body_bytes, self._settings.max_body_values)
        except LineFault as fault:
            # A setting was lowered since. The job's own checks refuse it, under an id that says where it is.
            return Request(f"line {line.number + 1}", "POST", "", {"error": fault.message})


def _now() -> int:
    return int(time.time())
