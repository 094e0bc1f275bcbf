"""A process of 16 threads that all claim from one model at once, round by round, and count what they got.

python -m tests.shared.racer REDIS_URL PREFIX MODEL ROUNDS
"""

import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

from shared.jobs import JobStore, connect

THREADS = 16


def main(url: str, prefix: str, model: str, rounds: int) -> None:
    redis = connect(url, 5.0)
    store = JobStore(redis, prefix, retention=60, lease=60.0)
    barrier = threading.Barrier(THREADS)

    def claim(number: int) -> list[str]:
        barrier.wait(10)
        # A connection each: calls of one store would leave in one pipeline.
        mine = JobStore(redis, prefix, retention=60, lease=60.0)
        held = [claim for _ in range(3) for claim in mine.claim(model, 4, "racer").claims]
        return [f"{claim.id}/{claim.attempt}" for claim in held]

    with ThreadPoolExecutor(THREADS) as pool:
        for number in range(rounds):
            redis.rpush(f"{prefix}:here:{number}", "1")
            while not redis.exists(f"{prefix}:go:{number}"):
                time.sleep(0.005)
            got = [name for names in pool.map(claim, range(THREADS)) for name in names]
            store.redis.rpush(f"{prefix}:got:{number}", " ".join(got))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]))
