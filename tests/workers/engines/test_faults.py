"""What an exception is taken for, by class and message."""

import pytest
import torch

from workers.engines.faults import DeviceLost, device_lost, exhausted, passing, reclaim


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
        RuntimeError(
            "[enforce fail at alloc_cpu.cpp:119] DefaultCPUAllocator: can't allocate memory"
        ),
        RuntimeError("CUDA error: out of memory"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        OSError(12, "Cannot allocate memory"),
    ],
)
def test_memory_that_ran_out(error: Exception) -> None:
    assert exhausted(error)
    assert device_lost(error) is None


@pytest.mark.parametrize(
    ("message", "blames"),
    [
        ("CUDA error: device-side assert triggered\nCUDA kernel errors might be", True),
        ("CUDA error: an illegal memory access was encountered", True),
        ("CUDA error: uncorrectable ECC error encountered", False),
        ("CUDA error: no CUDA-capable device is detected", False),
    ],
)
def test_a_device_that_is_gone(message: str, blames: bool) -> None:
    lost = device_lost(RuntimeError(message))

    assert lost is not None and lost.blames is blames
    assert "\n" not in str(lost)
    assert not exhausted(RuntimeError(message))


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("The size of tensor a (3) must match the size of tensor b (4)"),
        RuntimeError("CUDA error: invalid argument"),
        ValueError("out of memory"),
        ValueError("cuda device-side assert"),
        KeyError("x"),
    ],
)
def test_a_plain_error(error: Exception) -> None:
    assert not exhausted(error)
    assert device_lost(error) is None


def test_a_loss_is_passed_on_as_it_is() -> None:
    lost = DeviceLost("gone", blames=False)

    assert device_lost(lost) is lost


def test_torch_s_own_allocator_is_understood() -> None:
    with pytest.raises(RuntimeError) as error:
        torch.empty(1 << 60, dtype=torch.uint8)

    assert exhausted(error.value)
    reclaim()


def test_faults_that_pass_are_named() -> None:
    assert passing(ConnectionResetError()) and passing(TimeoutError())
    assert not passing(RuntimeError("a timeout")) and not passing(OSError(5, "Input/output error"))
