"""What models did lately: ends, latencies and tokens, counted by every worker in Redis.

The script that ends a job counts it in a hash of its model and minute (lua/lib/statistics.lua), so it
costs no round trip. Durations are counted in buckets whose bounds grow by `GAMMA`: a percentile read
from them is wrong by at most (`GAMMA` - 1) / (`GAMMA` + 1), 5 % (Masson, Rim, Lee: DDSketch, VLDB 2019).
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from redis import Redis

from shared.store.keys import Keys

GAMMA = 1.1
MINUTES = 5
"""How many whole minutes statistics look back, besides the present one."""
HISTORY_MINUTES = 60
"""How many minutes a history looks back."""
KEPT_SECONDS = 60 * (HISTORY_MINUTES + MINUTES)
"""How long a minute's counts are kept."""
PERCENTILES = (50, 95, 99)


@dataclass(frozen=True, slots=True)
class Percentiles:
    """Of durations in milliseconds; None where there were none."""

    p50: float | None = None
    p95: float | None = None
    p99: float | None = None


@dataclass(frozen=True, slots=True)
class ModelStats:
    """A model's last `seconds`. `ended` counts jobs by the state they ended in.

    `latency` is from a job's making to its success, `queue_wait` to its first start. Of requests that may
    share results, `hits` found one, `shared` joined a job that works on it, `misses` had to run.
    """

    model: str
    seconds: float
    ended: Mapping[str, int]
    tokens: int
    latency: Percentiles
    queue_wait: Percentiles
    hits: int
    shared: int
    misses: int


def read_stats(redis: Redis, keys: Keys, models: Sequence[str]) -> list[ModelStats]:
    """The statistics of these models, in one round trip and one for the time. Raises `RedisError`."""
    seconds, micros = redis.time()
    minute = seconds // 60
    minutes = [str(minute - back) for back in range(MINUTES + 1)]
    pipe = redis.pipeline(transaction=False)
    for model in models:
        for name in minutes:
            pipe.hgetall(keys("stats", model, name))
    replies = iter(pipe.execute())
    span = MINUTES * 60 + seconds % 60 + micros / 1e6
    return [_sum(model, span, [next(replies) for _ in minutes]) for model in models]


@dataclass(frozen=True, slots=True)
class MinuteStats:
    """What all models together did in a minute; `minute` is in minutes since 1970."""

    minute: int
    ended: int
    failed: int
    tokens: int
    latency: Percentiles
    queue_wait: Percentiles


def read_minutes(
    redis: Redis, keys: Keys, models: Sequence[str], minutes: Sequence[int]
) -> list[MinuteStats]:
    """What these models did in each of these minutes, in one round trip. Raises `RedisError`."""
    pipe = redis.pipeline(transaction=False)
    for minute in minutes:
        for model in models:
            pipe.hgetall(keys("stats", model, str(minute)))
    replies = iter(pipe.execute())
    return [_minute(minute, [next(replies) for _ in models]) for minute in minutes]


def _minute(minute: int, hashes: Iterable[Mapping[bytes, bytes]]) -> MinuteStats:
    total = _total(hashes)
    return MinuteStats(
        minute=minute,
        ended=sum(count for name, count in total.items() if name.startswith("n:")),
        failed=total["n:failed"],
        tokens=total["tokens"],
        latency=percentiles(_buckets(total, "l")),
        queue_wait=percentiles(_buckets(total, "w")),
    )


def _total(hashes: Iterable[Mapping[bytes, bytes]]) -> Counter[str]:
    total: Counter[str] = Counter()
    for counts in hashes:
        for name, count in counts.items():
            total[name.decode()] += int(count)
    return total


def _sum(model: str, seconds: float, hashes: Iterable[Mapping[bytes, bytes]]) -> ModelStats:
    total = _total(hashes)
    ended = {name[2:]: count for name, count in total.items() if name.startswith("n:")}
    return ModelStats(
        model=model,
        seconds=seconds,
        ended=ended,
        tokens=total["tokens"],
        latency=percentiles(_buckets(total, "l")),
        queue_wait=percentiles(_buckets(total, "w")),
        hits=total["hits"],
        shared=total["shared"],
        misses=total["misses"],
    )


def _buckets(total: Mapping[str, int], kind: str) -> dict[int, int]:
    return {
        int(name[1:]): count
        for name, count in total.items()
        if name[0] == kind and name[1:].isdigit()
    }


def percentiles(buckets: Mapping[int, int]) -> Percentiles:
    """`PERCENTILES` of durations in ms, counted by bucket: number i holds GAMMA^(i-1) < ms <= GAMMA^i."""
    count = sum(buckets.values())
    if count == 0:
        return Percentiles()
    return Percentiles(*(_quantile(buckets, count, percent / 100) for percent in PERCENTILES))


def _quantile(buckets: Mapping[int, int], count: int, quantile: float) -> float:
    """The middle, by ratio, of the bucket that holds the value of rank floor(quantile × (count - 1))."""
    rank, seen = int(quantile * (count - 1)), 0
    for number in sorted(buckets):
        seen += buckets[number]
        if seen > rank:
            return round(2 * GAMMA**number / (GAMMA + 1), 2)
    raise AssertionError("a rank is below the count")
