"""The smallest step that does nearly as much as the best."""

import pytest

from workers.engines.batching.calibration import LONGEST_STEP, calibrate, choose

SIZES = (64, 128, 256, 512, 1024)


class Machine:
    """A step of n takes `overhead` + n * `per_token` seconds on its own clock."""

    def __init__(self, overhead: float, per_token: float, memory: int = 1 << 30) -> None:
        self.overhead, self.per_token, self.memory = overhead, per_token, memory
        self.now = 0.0
        self.ran: list[int] = []

    def run(self, size: int) -> None:
        self.ran.append(size)
        if size > self.memory:
            raise RuntimeError("CUDA out of memory")
        self.now += self.overhead + size * self.per_token

    def calibrate(self) -> int:
        return calibrate(self.run, SIZES, clock=lambda: self.now)[0]


@pytest.mark.parametrize(
    ("overhead", "per_token", "expected"),
    [(0, 1e-6, 64), (1e-3, 1e-6, 1024), (1e-5, 1e-6, 128), (1e-4, 1e-6, 1024)],
)
def test_more_is_taken_only_while_it_pays(overhead: float, per_token: float, expected: int) -> None:
    assert Machine(overhead, per_token).calibrate() == expected


def test_a_step_that_takes_long_is_the_last_one_tried() -> None:
    machine = Machine(0.5 * LONGEST_STEP, LONGEST_STEP / 200)
    machine.calibrate()

    assert max(machine.ran) == 128


def test_memory_that_runs_out_ends_the_search() -> None:
    assert Machine(1e-3, 1e-6, memory=300).calibrate() == 256
    with pytest.raises(RuntimeError, match="out of memory"):
        Machine(0, 1e-6, memory=1).calibrate()


def test_another_error_is_let_through() -> None:
    machine = Machine(0, 1e-6)

    def run(size: int) -> None:
        machine.run(size)
        if size == 256:
            raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        calibrate(run, SIZES)


def test_a_clock_that_stands_still_is_survived() -> None:
    assert choose({64: 0.0, 128: 0.0}) == 128
