"""What a worker learns of its engine host: in which state it is, what its steps brought, why it is gone."""

from collections.abc import Sequence
from enum import StrEnum
from typing import Literal, Protocol

from workers.host_protocol.messages import Stepped

Cause = Literal["crash", "device", "drained"]
"""Why a host is gone: a job may have done it, its device failed by itself, or it was replaced on purpose."""


class EngineState(StrEnum):
    """`failed`: the model cannot be served; it is tried again, ever more rarely. `unhealthy`: the host
    takes nothing new, finishes what it holds and is replaced.
    """

    STARTING = "starting"
    READY = "ready"
    UNHEALTHY = "unhealthy"
    FAILED = "failed"
    STOPPED = "stopped"


class EngineEvents(Protocol):
    """Who listens to a host. Called from the client's one thread."""

    def engine_stepped(self, steps: Sequence[Stepped]) -> None:
        """What steps brought that was read together. May take as long as a call to Redis."""

    def engine_lost(self, reason: str, cause: "Cause", culprit: str) -> None:
        """The host is gone with everything that it held.

        `culprit`: the ticket of the job whose admission ended it, "" where it may be any that it held.
        """

    def engine_changed(self, state: EngineState, detail: str) -> None: ...
