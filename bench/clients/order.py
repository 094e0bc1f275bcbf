"""What the harness and its load generator say to each other: one JSON document a line."""

import msgspec

from bench.clients.shapes import Shape


class Polling(msgspec.Struct, frozen=True):
    """Where a job's result is asked for. `every` is in seconds, also before the first look.

    `job_id` is where the id stands in the answer to the submit; `path` has `{id}` in its place.
    """

    job_id: tuple[str, ...]
    path: str
    every: float


class Dialect(msgspec.Struct, frozen=True):
    """How a subject is asked to echo a prompt, and where its answer holds the echo.

    The request is a POST of `fields` and a member `prompt`, or, where each request is a batch, a member
    named `batch`, a list of one. `answer` is where the echo stands in the JSON, names of members and places
    in lists; while nothing stands there and `polling` is given, the result is asked for again. With `ids`,
    what stands there is the id of a job that was accepted, and counts when it is a new one.
    """

    path: str
    answer: tuple[str | int, ...]
    fields: dict[str, str] = {}
    headers: dict[str, str] = {}
    polling: Polling | None = None
    ids: bool = False
    batch: str | None = None


class Order(msgspec.Struct, frozen=True):
    """A closed loop of `clients`, each with one job at a time; with `rate`, an open loop of so many jobs
    a second, at most `clients` of them open at once. Times are in seconds.

    `patience` bounds the wait for a subject's first answer, and for the last ones. After the first, nothing
    is asked for `settle`: a connection stays with one front-end process, so all of them are to be up. `shape`
    is how submissions are sent.
    """

    url: str
    dialect: Dialect
    clients: int
    warm_up: float
    seconds: float
    patience: float = 60.0
    rate: float | None = None
    settle: float = 2.0
    shape: Shape = "client"


class Mark(msgspec.Struct, tag=True, frozen=True):
    """Sent when the measured time begins, and when it ends."""

    moment: str


class Latency(msgspec.Struct, frozen=True):
    """Milliseconds from sending a job, in an open loop from when it was due, to having its right answer."""

    p50: float
    p95: float
    p99: float


class Report(msgspec.Struct, tag=True, frozen=True):
    """What was measured. `answers`, `rate` (a second) and `latency` are of the measured time alone: of the
    jobs that were answered in it, in an open loop of those that were due in it.

    `right`, `errors` (by reason), `requests` (HTTP, polls included) and `cpu_seconds` are of everything
    since the subject's first answer.
    """

    answers: int
    rate: float
    latency: Latency
    right: int
    errors: dict[str, int]
    requests: int
    cpu_seconds: float

    @property
    def wrong(self) -> int:
        """How many jobs did not get their right answer."""
        return sum(self.errors.values())
