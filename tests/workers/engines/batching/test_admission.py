"""What a job ends as whose input could not be taken in."""

import pytest

from shared.domain.errors import InputRefused
from workers.engines.batching.admission import refused
from workers.engines.faults import DeviceLost


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ZeroDivisionError("template"), "poison_input"),
        (RuntimeError("tokeniser"), "poison_input"),
        (SystemExit(3), "poison_input"),
        (KeyboardInterrupt(), "poison_input"),
        (InputRefused("no"), "invalid_input"),
        (InputRefused("long", code="prompt_too_long"), "prompt_too_long"),
        (MemoryError(), "out_of_memory"),
        (ConnectionResetError(), "engine_error"),
    ],
)
def test_what_an_admission_that_raised_ends_as(error: BaseException, code: str) -> None:
    found = refused("j", error)
    assert (found.code, found.at_admission) == (code, True)


def test_a_device_that_an_admission_took_along_is_laid_to_that_job() -> None:
    with pytest.raises(DeviceLost) as lost:
        refused("j", RuntimeError("CUDA error: device-side assert triggered"))
    assert lost.value.ticket == "j" and lost.value.blames
