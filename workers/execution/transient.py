"""Short tries again inside an attempt, for faults that pass: the store did not answer one read or mark.

Everything else has an owner elsewhere: the scribe repeats its writes until they are answered, a failed
step is run again in the engine host, and an attempt that ends is `retries.decide`'s.
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
