"""Jobs that say one word a second, as a worker would write it: claimed, appended in batches, finished."""

import time
from collections.abc import Sequence

import msgspec

from bench.sse.result import MODEL
from shared.domain.records import Append, Claim, Finish, NewJob, Write, new_job_id
from shared.domain.states import JobState
from shared.store.jobs import JobStore

BATCHES = 50
"""Writes a second."""
CLAIMED_AT_ONCE = 64
TENANT = "default"
REQUEST = b'{"content": "now", "params": {}, "seed": 0}'


class Feeder:
    """`claims` are its running jobs; `said` what each was given to say, in order.

    An event's text is the time in microseconds at which the write that brought it began.
    """

    def __init__(self, store: JobStore, jobs: int) -> None:
        """Make the jobs and claim them."""
        self._store = store
        for _ in range(jobs):
            store.create(NewJob(new_job_id(), MODEL, TENANT, REQUEST), max_queued=jobs)
        self.claims: list[Claim] = []
        while len(self.claims) < jobs:
            self.claims += store.claim(MODEL, CLAIMED_AT_ONCE, "feeder").claims
        self.said: dict[str, list[str]] = {claim.id: [] for claim in self.claims}

    def feed(self, beats: int) -> float:
        """An event a second to every job, `beats` times, spread over the second.

        Returns by how many seconds it was late at its latest.
        """
        groups = [self.claims[n::BATCHES] for n in range(BATCHES)]
        began = time.monotonic()
        late = 0.0
        for beat in range(beats):
            for number, group in enumerate(groups):
                left = began + beat + number / BATCHES - time.monotonic()
                late = max(late, -left)
                time.sleep(max(0.0, left))
                if group:
                    self._append(group, beat)
        return late

    def _append(self, group: Sequence[Claim], beat: int) -> None:
        stamp = str(time.time_ns() // 1000)
        data = msgspec.json.encode({"text": stamp, "index": beat})
        self._write([Append(c.id, c.attempt, beat + 1, "token", data) for c in group])
        for claim in group:
            self.said[claim.id].append(stamp)

    def finish(self) -> None:
        """End all jobs, which ends their streams."""
        for n in range(0, len(self.claims), CLAIMED_AT_ONCE):
            self._write(
                [
                    Finish(claim.id, claim.attempt, JobState.SUCCEEDED, b'{"said": true}')
                    for claim in self.claims[n : n + CLAIMED_AT_ONCE]
                ]
            )

    def _write(self, writes: list[Write]) -> None:
        refused = [result for result in self._store.write(writes) if result != 1]
        if refused:
            raise RuntimeError(
                f"{len(refused)} of {len(writes)} writes were refused: {refused[:8]}"
            )
