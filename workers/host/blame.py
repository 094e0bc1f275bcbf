"""Decides whether a failure is the job's fault or its engine's, by what the host has seen."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

import msgspec

from shared.domain.errors import InputRefused, JobsError
from workers.engines.base import Failed
from workers.engines.faults import SHAPED_BY_INPUT, Unprepared, exhausted, passing
from workers.host.search import SICK_AFTER
from workers.host_protocol.messages import Doubt

EVIDENCE_SECONDS = 60.0
"""For how long a good step vouches for the engine."""
MOST_REMEMBERED = 256


@dataclass(frozen=True, slots=True)
class Fault:
    """What is kept of an exception: its traceback would hold the step's tensors.

    `code`: what a culprit ends with. `at_admission`: it came up before the model ran, so the input is to
    blame. `shaped`: it is of the kind that code raises over data that it did not expect.
    """

    summary: str = ""
    code: str = "poison_input"
    memory: bool = False
    passing: bool = False
    at_admission: bool = False
    shaped: bool = False

    @classmethod
    def of(cls, error: BaseException) -> Self:
        """Only what was written for clients is told to them; the log has the rest."""
        unprepared = isinstance(error, Unprepared)
        summary = error.detail if isinstance(error, JobsError) else type(error).__name__
        return cls(
            str(error) if unprepared else summary,
            error.code if isinstance(error, InputRefused) else "poison_input",
            memory=exhausted(error),
            passing=passing(error),
            at_admission=unprepared or isinstance(error, InputRefused),
            shaped=isinstance(error, SHAPED_BY_INPUT),
        )

    @property
    def message(self) -> str:
        if self.code == "poison_input":
            return f"The model fails on this input: {self.summary}"
        return self.summary


class _Asked(msgspec.Struct):
    """What a job asked for, as it stands in its request; the seed is not a part of it."""

    content: msgspec.Raw
    params: msgspec.Raw


_asked = msgspec.json.Decoder(_Asked).decode


class Evidence:
    """What speaks for the engine, and what against it.

    A failure speaks against it when the engine has done nothing well for `EVIDENCE_SECONDS`, or when
    `SICK_AFTER` different inputs have failed since it did, unless by errors of the kind that data cause. Of
    an engine that has ever done well those say something only when the inputs of two tenants met them: one
    tenant with bad data must not close a model to everybody. An input that fails again says nothing new.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._well = -math.inf
        self._failed: dict[int, str] = {}
        """Inputs that failed since the last good step, by their hashes, and whose they were."""

    def well(self) -> None:
        """A job ended well, or said something."""
        self._well = self._clock()
        self._failed.clear()

    @property
    def lately_well(self) -> bool:
        return self._clock() - self._well <= EVIDENCE_SECONDS

    def doubt(self, fault: Failed, request: bytes, tenant: str = "") -> Doubt:
        """Note that a job with this request failed. Returns what that says against the engine.

        `tenant` tells tenants apart, and no more.
        """
        asked = _asked(request)
        known = hash((bytes(asked.content), bytes(asked.params)))
        again = known in self._failed
        if len(self._failed) < MOST_REMEMBERED:
            self._failed[known] = tenant
        by_data = fault.shaped or fault.code == "poison_input"
        if self.lately_well and (by_data or len(self._failed) < SICK_AFTER):
            return ""
        if by_data and self._well > -math.inf and len(set(self._failed.values())) == 1:
            return ""
        return "known" if again else "new"
