"""The pause between one engine host and the next."""

import pytest

from workers.engine_host.respawn import next_pause


@pytest.mark.parametrize(
    ("pause", "lived", "failed", "following"),
    [
        (0.2, 1.0, False, 0.4),
        (20.0, 1.0, False, 30.0),
        (30.0, 61.0, False, 0.2),
        (30.0, 61.0, True, 60.0),
        (200.0, 61.0, True, 244.0),
        (30.0, 1.0, True, 30.0),
    ],
)
def test_a_load_that_takes_long_and_fails_is_repeated_ever_more_rarely(
    pause: float, lived: float, failed: bool, following: float
) -> None:
    assert next_pause(pause, lived, (0.2, 30.0), failed=failed) == following
