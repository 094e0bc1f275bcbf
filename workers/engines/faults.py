"""Classifies exceptions out of a model: memory that ran out, a device that is lost, a fault that passes.

Recognised by class and message, so that no library has to be imported for it.
"""

import gc
import re
import sys

_EXHAUSTED = re.compile(
    r"out of memory|can't allocate memory|cannot allocate memory|not enough memory|_ALLOC_FAILED",
    re.IGNORECASE,
)
_BY_AN_INPUT = (
    "device-side assert",
    "illegal memory access",
    "illegal instruction",
    "illegal address",
    "misaligned address",
    "unspecified launch failure",
    "launch timed out",
)
"""After these a CUDA context is lost (CUDA runtime API, cudaError), and a kernel's input can be the cause."""
_BY_NOBODY = (
    "uncorrectable ecc",
    "gpu is lost",
    "no cuda-capable device",
    "devices are busy or unavailable",
    "device unavailable",
    "uncorrectable nvlink",
    "hardware stack error",
    "driver shutting down",
)
PASSING = (ConnectionError, TimeoutError, InterruptedError, BlockingIOError)
"""What a model raises that asked somebody else, or the system, in a bad moment."""


SHAPED_BY_INPUT = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    RecursionError,
    TypeError,
    ValueError,
)
"""What code raises over data that it did not expect. A device or a service that fails raises other things."""


class Unprepared(Exception):
    """The inputs could not be made ready for the model: what they are is to blame, not the engine."""


class DeviceLost(Exception):
    """The device is of no use to this process any more; only a new process may find it well.

    `blames`: a job that ran may be the cause. `ticket`: which one, where it ran alone.
    """

    def __init__(self, message: str, *, blames: bool) -> None:
        super().__init__(message)
        self.blames = blames
        self.ticket = ""


def exhausted(error: BaseException) -> bool:
    """Whether memory ran out, the host's or a device's."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    return isinstance(error, RuntimeError | OSError) and bool(_EXHAUSTED.search(str(error)))


def passing(error: BaseException) -> bool:
    """Whether the same step may well pass when it is run again at once."""
    return isinstance(error, PASSING)


def of_the_engine(error: BaseException) -> bool:
    """Whether an error over inputs says something of the engine all the same."""
    return exhausted(error) or passing(error) or device_lost(error) is not None


def device_lost(error: BaseException) -> DeviceLost | None:
    """The error as a loss of the device, None when it is something else."""
    if isinstance(error, DeviceLost):
        return error
    if not isinstance(error, RuntimeError):
        return None
    said = str(error).lower()
    if "cuda" not in said and "device" not in said:
        return None
    message = str(error).partition("\n")[0]
    if any(sign in said for sign in _BY_AN_INPUT):
        return DeviceLost(message, blames=True)
    if any(sign in said for sign in _BY_NOBODY):
        return DeviceLost(message, blames=False)
    return None


def reclaim() -> None:
    """Give freed memory back to the device. Call it outside of the handler: a traceback holds tensors."""
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.empty_cache()
