"""Decides how long to wait before another engine host is started."""

LONG_LIFE_SECONDS = 60.0
"""A host that served so long did not end for what the one before ended for."""
LOADING_PAUSES = 4
"""The longest pause after a load that failed, in times of that load."""


def next_pause(pause: float, lived: float, bounds: tuple[float, float], *, failed: bool) -> float:
    """Seconds until another host is started, after one that `lived` so long and followed such a `pause`.

    `bounds`: the shortest and the longest. `failed`: it could not serve the model. Trying that again takes a
    fifth of the time at most.
    """
    shortest, longest = bounds
    if failed:
        return min(max(longest, LOADING_PAUSES * lived), pause * 2)
    return shortest if lived > LONG_LIFE_SECONDS else min(longest, pause * 2)
