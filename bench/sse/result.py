"""What a run of the streams brought, as it is written to `bench/results/*-sse.json`."""

import msgspec

from bench.reporting.machine import Machine

MODEL = "clock"
MOST_KB = 40.0
MOST_P99_MS = 250.0


class Plan(msgspec.Struct, frozen=True):
    """`streams` readers in all, `beats` events to each job, one a second; the first `skipped` warm up."""

    streams: int
    beats: int
    skipped: int


FULL = Plan(streams=3000, beats=20, skipped=4)
QUICK = Plan(streams=500, beats=8, skipped=2)


class Held(msgspec.Struct, frozen=True):
    """`streams` readers of `jobs` jobs.

    `opening_s`: until all were open. `empty_mb`: the API process' memory (USS) before. `open_kb` and
    `fed_kb`: by how much it had grown for each stream once all were open, and after all events.
    `event_us`: processor time of the API process for each frame at a reader. `delays_ms`: p50, p95, p99
    and the longest of the times from append to arrival. `late_s`: how far the feeder fell behind its
    second. `refused`: requests that were answered by no stream and sent again. `wrong`: streams that got
    other events than were appended, or no end.
    """

    streams: int
    jobs: int
    opening_s: float
    empty_mb: float
    open_kb: float
    fed_kb: float
    event_us: float
    delays_ms: tuple[float, float, float, float]
    late_s: float
    refused: int
    wrong: int


class Result(msgspec.Struct, frozen=True):
    """One run. `date` is the UTC day."""

    date: str
    quick: bool
    plan: Plan
    machine: Machine
    held: list[Held]

    @property
    def stem(self) -> str:
        """The name of the result's files without their endings."""
        return f"{self.date}-sse-quick" if self.quick else f"{self.date}-sse"

    @property
    def wrong(self) -> int:
        return sum(held.wrong for held in self.held)
