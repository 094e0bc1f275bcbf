"""The protocol between the host's loop and an engine: six methods, and the values that they exchange.

An engine is driven by one thread. It never sees Redis, Celery or leases; the host's loop
admits work, asks for steps and takes work out again, always between two steps.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, Self

import msgspec

from shared.domain.events import Prefix
from shared.domain.models.catalog import ModelSpec
from shared.domain.parts import Part


class Request(msgspec.Struct):
    """A job's request as the API stored it."""

    content: Any
    params: dict[str, Any]
    seed: int


_decode = msgspec.json.Decoder(Request).decode
_encode = msgspec.json.Encoder().encode


class Work(msgspec.Struct, frozen=True):
    """One attempt at a job, as an engine sees it.

    `text` and `token_ids` are what earlier attempts have streamed already, `further` that of the job's second
    text and those after it; `finish_reason` says why the first has ended, "" where it has not. An engine that
    can continue takes them as a forced prefix and says only what comes after; `text` is exactly the text of
    `token_ids`. An engine that cannot never gets them. Sampling must depend on nothing but `seed`, the text's
    number and the position in it. `expires` is when the host takes the job out again, by `time.monotonic`; an
    engine may use it to choose whom to serve first, and need not. What jobs with different `salt`s, which
    stand for tenants, have in common must not show in what they are told or how long they take.

    `priority` is the job's class (`shared.domain.states.CLASSES`): the queue has heeded it, and an engine
    that schedules for itself may. `adapter` is the LoRA adapter that the job is for, by its catalogue entry's
    name; "" for the model alone.

    `request` is what `content` and `params` were decoded from. Code that is not ours may change them, so
    whoever hands them to such code for a second time takes those of `anew`.
    """

    id: str
    content: Any
    params: Mapping[str, Any]
    seed: int
    text: str = ""
    token_ids: tuple[int, ...] = ()
    expires: float = math.inf
    salt: str = ""
    request: bytes = b""
    adapter: str = ""
    further: tuple[Prefix, ...] = ()
    priority: str = "normal"
    finish_reason: str = ""

    @property
    def prefix(self) -> Prefix:
        """What was streamed of the first text."""
        return Prefix(self.text, self.token_ids, self.finish_reason)

    @classmethod
    def of(cls, job_id: str, request: bytes, **fields: Any) -> Self:
        """The work that a stored request asks for. Raises `msgspec.MsgspecError` for no request."""
        given = _decode(request)
        return cls(job_id, given.content, given.params, given.seed, request=request, **fields)

    def anew(self) -> Self:
        """A copy of this work whose content and params are its own, decoded from the stored bytes.

        Work that was made without a stored request is taken as it is now.
        """
        given = _decode(
            self.request or _encode(Request(self.content, dict(self.params), self.seed))
        )
        return msgspec.structs.replace(self, content=given.content, params=given.params)


class Piece(msgspec.Struct, frozen=True):
    """Something new of one job's output, in order.

    Text engines: `text` is non-empty, never ends in half a character, and is exactly the text of
    `token_ids` (whole tokens; only the last piece of a text may be shorter, cut at a stop string or before
    a character that is not whole).
    Other engines: `output` is any JSON value, `text` is empty.
    Of a job with several texts `choice` says which one it is a piece of. Of a text that answers a chat,
    `parts` is what the piece adds to the parts of the message, perhaps nothing, and the last piece may have
    no text; None for any other text. `logprobs` are those of `token_ids`, as the output has them, where they
    are wanted; None where they are not. `finish_reason` where the text of a chat ends with this piece.
    """

    id: str
    text: str = ""
    token_ids: tuple[int, ...] = ()
    output: Any = None
    choice: int = 0
    parts: tuple[Part, ...] | None = None
    finish_reason: str = ""
    logprobs: tuple[dict[str, Any], ...] | None = None

    @property
    def of_text(self) -> bool:
        return bool(self.text) or self.parts is not None or self.logprobs is not None


class Finished(msgspec.Struct, frozen=True):
    """The job is done. `usage` may hold prompt_tokens, completion_tokens, total_tokens, cached_tokens,
    batch_size."""

    id: str
    output: Any
    usage: Mapping[str, int] = {}


class Failed(msgspec.Struct, frozen=True):
    """The attempt failed. `code` stands in `shared.domain.errors.PROBLEMS`, which says if a retry may help.

    `shaped`: by an error of the kind that code raises over data that it did not expect. `at_admission`: while
    its input was taken in, before the model ran, which says nothing of the engine.
    """

    id: str
    code: str
    message: str
    shaped: bool = False
    at_admission: bool = False


class Step(msgspec.Struct, frozen=True):
    """What one step brought. The pieces of a job come before its outcome.

    `shares` weighs the jobs that took part, by their tokens for example: the step's time is charged to
    them so. An engine that leaves it out has it charged evenly to those that said something or ended.
    """

    pieces: list[Piece] = []
    outcomes: list[Finished | Failed] = []
    batch_size: int = 0
    shares: Mapping[str, float] = {}


@dataclass(frozen=True, slots=True)
class EngineInfo:
    """What an engine says of itself once loaded.

    `capacity`: jobs it can hold at once, those that wait for a slot inside it included.
    `continues`: it can take up the text of an earlier attempt. `adapters`: what it says of each adapter
    of its entry, by name; `refused`: why one of them is not served, though the others and the model are.
    """

    capacity: int
    continues: bool = False
    device: str = "cpu"
    dtype: str = ""
    details: Mapping[str, Any] = field(default_factory=dict)
    adapters: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    refused: Mapping[str, str] = field(default_factory=dict)


class Engine(Protocol):
    """What every engine does. The contract suite in tests/contracts runs against each.

    An engine may also have an attribute `budget` (`workers.engines.batching.budget.Budget`) from `load` on:
    the host halves it when a step runs out of memory, and remembers it. Without one the batch is searched
    for the job that does not fit. And one that holds more jobs than a step takes may have `taken`: the
    ids of those that the step takes, known before the model runs. When it raises, only they are suspects.
    """

    def __init__(self, spec: ModelSpec) -> None: ...

    def load(self) -> EngineInfo:
        """Load the model and warm up. Raises `ConfigError` when the model cannot be served."""

    def admit(self, work: Work) -> None:
        """Take a job in; it takes part from the next step on.

        Raises `InputRefused` for input that the model cannot take: nothing is kept then.
        """

    def cancel(self, job_id: str) -> None:
        """Let go of a job and its memory at once, without an outcome. Unknown ids are ignored."""

    def step(self) -> Step:
        """Advance once: a batch of a one-shot model, one iteration of a generating one.

        An exception out of here means the whole step committed nothing.
        """

    def pending(self) -> int:
        """How many admitted jobs have had no outcome yet."""

    def batch_delay(self) -> float:
        """Seconds that waiting for company still pays before the next step; 0 when it should run now."""
