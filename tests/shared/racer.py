"""A process of 16 threads that all claim from one model at once, round by round, and say what they got."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

from shared.redis.connection import connect
from shared.store.jobs import JobStore

THREADS = 16


def race(url: str, prefix: str, model: str, rounds: int) -> None:
    """Wait for `PREFIX:go:N` and push the `id/attempt`s claimed then onto `PREFIX:got:N`."""
    redis = connect(url, 10.0)
    barrier = threading.Barrier(THREADS)

    def claim(_: int) -> list[str]:
        # A store each: the calls of one would leave in one pipeline.
        store = JobStore(redis, prefix, retention=60, lease=60.0)
        barrier.wait(30)
        held = [claim for _ in range(3) for claim in store.claim(model, 4, "racer").claims]
        return [f"{claim.id}/{claim.attempt}" for claim in held]

    with ThreadPoolExecutor(THREADS) as pool:
        for number in range(rounds):
            redis.rpush(f"{prefix}:here:{number}", "1")
            while not redis.exists(f"{prefix}:go:{number}"):
                time.sleep(0.005)
            got = [name for names in pool.map(claim, range(THREADS)) for name in names]
            redis.rpush(f"{prefix}:got:{number}", " ".join(got))
    redis.close()
