"""The messages between a worker and its engine host."""

from typing import Any, Literal

import msgspec

from shared.domain.events import Prefix
from shared.domain.parts import Part

PULSE_SECONDS = 1.0

Doubt = Literal["", "known", "new"]
"""What a failure says against the engine: nothing, for its input is to blame; what an earlier failure of the
same input has said already; something new."""


class Load(msgspec.Struct, tag=True, frozen=True):
    """First message to a host: the model's catalogue entry as JSON.

    `ceilings`: the file in which it keeps what did not fit into memory; "" for none. `max_output`: bytes of
    JSON that one job may answer, its stream included; 0 for no bound.
    """

    spec: bytes
    ceilings: str = ""
    max_output: int = 0


class Submit(msgspec.Struct, tag=True, frozen=True):
    """Run an attempt. `ticket` names it; `request` is the job's JSON {content, params, seed}.

    `seconds` is how long it may take; `limit` says what it is when it took longer. `text` and `token_ids`
    were streamed by earlier attempts, `further` of the job's texts after the first; `finish_reason`: why the
    first has ended, where readers were told that. `salt` stands for its
    tenant, whom the host does not know. `adapter`: the entry that it is for, where that is an adapter of the
    host's model.
    """

    ticket: str
    request: bytes
    seconds: float
    limit: Literal["expired", "run_timeout"]
    text: str = ""
    token_ids: tuple[int, ...] = ()
    salt: str = ""
    further: tuple[Prefix, ...] = ()
    adapter: str = ""
    priority: str = "normal"
    finish_reason: str = ""


class Cancel(msgspec.Struct, tag=True, frozen=True):
    """Let go of an attempt; the answer is an outcome `canceled` once it is gone."""

    ticket: str


class Stop(msgspec.Struct, tag=True, frozen=True):
    """End the process now."""


Command = Load | Submit | Cancel | Stop


class Ready(msgspec.Struct, tag=True, frozen=True):
    """The model is loaded; see `EngineInfo`."""

    capacity: int
    continues: bool
    device: str
    dtype: str
    details: dict[str, Any]
    load_ms: float
    adapters: dict[str, dict[str, Any]] = {}
    refused: dict[str, str] = {}


class Refused(msgspec.Struct, tag=True, frozen=True):
    """The model cannot be served; the host ends."""

    message: str


class Lost(msgspec.Struct, tag=True, frozen=True):
    """The device is gone and the host ends with all that it holds. `blames`: a job may be the cause.

    `ticket`: which one, "" where it may be any that ran.
    """

    message: str
    blames: bool
    ticket: str = ""


class PieceOut(msgspec.Struct, frozen=True, array_like=True):
    """A piece of one attempt: text with its token ids, or another engine's output as JSON.

    `choice`, `parts`, `finish_reason`: see `Piece`. `logprobs`: rows as JSON, separated by commas.
    """

    ticket: str
    text: str = ""
    token_ids: tuple[int, ...] = ()
    output: bytes = b""
    choice: int = 0
    parts: tuple[Part, ...] | None = None
    finish_reason: str = ""
    logprobs: bytes | None = None

    @property
    def of_text(self) -> bool:
        return bool(self.text) or self.parts is not None or self.logprobs is not None


class Outcome(msgspec.Struct, frozen=True, array_like=True):
    """How an attempt ended inside the host. `output` is JSON; `code` and `message` belong to broke.

    `device_seconds` is the attempt's share of the steps that it took part in. `doubt`: what it says against
    the engine that it broke.
    """

    ticket: str
    kind: Literal["finished", "failed", "canceled", "expired", "run_timeout"]
    output: bytes = b""
    usage: dict[str, int] = {}
    code: str = ""
    message: str = ""
    device_seconds: float = 0.0
    doubt: Doubt = ""


class Stepped(msgspec.Struct, tag=True, frozen=True):
    """What one step brought; the pieces of an attempt come before its outcome."""

    pieces: list[PieceOut]
    outcomes: list[Outcome]
    batch_size: int
    step_ms: float


class Pulse(msgspec.Struct, tag=True, frozen=True):
    """Sign of life, every second, unless the model lets no other thread run: how many jobs are pending.

    `budget`: what a step may take now, in the engine's unit; None where the engine has no bound.
    """

    pending: int
    budget: float | None = None


Report = Ready | Refused | Lost | Stepped | Pulse
