"""Repeats a call to the store a few times inside an attempt, for faults that pass.

Other faults are repeated elsewhere: the event writer repeats writes until they are answered, the engine
host runs a failed step again, and `retries.decide` says what becomes of an attempt that ended.
"""

from tenacity import (
    Retrying,
    retry_if_exception_type,
    stop_after_attempt,
    stop_after_delay,
    wait_random_exponential,
)

from shared.domain.errors import StoreUnavailable

TRANSIENT = (StoreUnavailable,)
TRIES = 3
TOTAL_SECONDS = 3.0


def transient() -> Retrying:
    """At most `TRIES` calls with full jitter between them, none begun after `TOTAL_SECONDS`.

    Raises what the last call raised.
    """
    return Retrying(
        retry=retry_if_exception_type(TRANSIENT),
        wait=wait_random_exponential(multiplier=0.05, max=0.5),
        stop=stop_after_attempt(TRIES) | stop_after_delay(TOTAL_SECONDS),
        reraise=True,
    )
