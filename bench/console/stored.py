"""Fills a job store with jobs as they are when they have ended, without running any."""

import json
import random
import time
from typing import Any

from redis import Redis

from shared.store.keys import Keys

PIECE = 5_000
SECONDS = 24 * 3600
TENANT = "default"
RARE = 200_000
"""One of so many jobs has `rare` among its metadata."""
ENDS = ("succeeded",) * 94 + ("failed",) * 4 + ("canceled", "expired")
USAGE = '{"prompt_tokens":9,"completion_tokens":40,"queue_ms":12,"run_ms":480,"attempts":1}'
OUTPUT = '{"text":"' + "word " * 20 + '","finish_reason":"stop"}'
ERROR = '{"code":"engine_error","message":"It broke.","retryable":true}'


def fill(redis: Redis, keys: Keys, count: int) -> None:
    """So many jobs of a day, one after the other in time."""
    chosen = random.Random(1)
    now = int(time.time() * 1000)
    step = max(1, SECONDS * 1000 // count)
    for begin in range(0, count, PIECE):
        pipe = redis.pipeline(transaction=False)
        ids = []
        for n in range(begin, min(count, begin + PIECE)):
            created = now - n * step
            job_id = f"job_{created:012x}{chosen.getrandbits(80):020x}"
            key = keys("job", job_id)
            pipe.hset(key, mapping=_record(chosen.choice(ENDS), created, n))
            pipe.expire(key, SECONDS)
            ids.append(job_id)
        pipe.zadd(keys("index", TENANT), dict.fromkeys(ids, 0))
        pipe.execute()
    redis.expire(keys("index", TENANT), SECONDS)


def _record(state: str, created: int, n: int) -> dict[Any, Any]:
    pairs = {"team": f"team-{n % 50}", **({"rare": "yes"} if n % RARE == RARE - 1 else {})}
    done = {"output": OUTPUT, "usage": USAGE} if state == "succeeded" else {"error": ERROR}
    return {
        "state": state,
        "model": "echo",
        "tenant": TENANT,
        "class": "normal",
        "seq": n,
        "created": created,
        "deadline": created + 1000 * SECONDS,
        "attempt": 1,
        "head": "1-42",
        "started": created + 12,
        "finished": created + 492,
        "metadata": json.dumps(pairs),
        **done,
    }
