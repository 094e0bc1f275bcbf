"""What is measured at load: never what a busy machine makes of one size."""

from collections.abc import Callable
from itertools import count

from workers.engines.text_generation.speculation import setup


def test_a_busy_stretch_makes_no_size_dearer_than_another() -> None:
    measured = count()

    def take(seconds: float) -> Callable[[], float]:
        # The machine has other work while one whole round and a half is measured.
        return lambda: seconds * (50 if 3 <= next(measured) < 9 else 1)

    assert setup.in_turns([take(1.0), take(2.0), take(3.0), take(4.0)], lambda: 0.0) == [
        1.0,
        2.0,
        3.0,
        4.0,
    ]
    assert next(measured) == 4 * setup.ROUNDS


def test_where_steps_are_long_each_is_measured_once() -> None:
    now, taken = 0.0, []

    def take(name: str) -> Callable[[], float]:
        def run() -> float:
            nonlocal now
            now += 2.0
            taken.append(name)
            return 2.0

        return run

    assert setup.in_turns([take("a"), take("b"), take("c")], lambda: now) == [2.0] * 3
    assert taken == ["a", "b", "c"]
