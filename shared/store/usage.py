"""What tenants have used, summed over their ended jobs by day and model.

The script that ends a job adds it to its day (shared/store/lua/lib/statistics.lua), in the same step, so
every job is counted exactly once, however it ended.
"""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Any, cast

from shared.domain.states import TERMINAL
from shared.store.jobs import JobStore

EPOCH = date(1970, 1, 1)
PAGE = 1000


@dataclass(frozen=True, slots=True)
class DailyUsage:
    """A tenant's jobs of one model that ended on one day (UTC).

    `jobs` counts them by terminal state. Tokens are those of jobs that succeeded; `run_seconds` is the
    time of last attempts, `device_seconds` the share of the engine's steps, over all attempts.
    """

    day: date
    tenant: str
    model: str
    jobs: dict[str, int] = field(default_factory=dict)
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    run_seconds: float = 0.0
    device_seconds: float = 0.0


def read_usage(store: JobStore, days: int, tenant: str | None = None) -> list[DailyUsage]:
    """The last `days` days up to today, oldest first; of one tenant, or of all.

    Raises `redis.exceptions.RedisError`.
    """
    today = datetime.now(UTC).date()
    found: list[DailyUsage] = []
    for ago in reversed(range(days)):
        found += _day(store, today - timedelta(days=ago), tenant)
    return found


def read_stored(store: JobStore, tenant: str | None = None) -> dict[str, int]:
    """How many bytes tenants make Redis hold now, those first that hold most. Raises `RedisError`."""
    start = store.keys("bytes", "")
    names = (key.decode() for key in store.redis.scan_iter(f"{start}*", count=PAGE))
    tenants = [tenant] if tenant is not None else [name.removeprefix(start) for name in names]
    held = {name: store.held_bytes(name) for name in tenants}
    return dict(sorted(held.items(), key=lambda row: -row[1]))


def _day(store: JobStore, day: date, tenant: str | None) -> Iterator[DailyUsage]:
    key = store.keys("usage", str((day - EPOCH).days))
    sums: dict[tuple[str, str], dict[str, int]] = defaultdict(dict)
    for name, value in cast(Any, store.redis.hscan_iter(key, count=PAGE)):
        figure, model, whose = name.decode().split(" ", 2)
        if tenant in (None, whose):
            sums[whose, model][figure] = int(value)
    for (whose, model), figures in sorted(sums.items()):
        yield DailyUsage(
            day=day,
            tenant=whose,
            model=model,
            jobs={state.value: figures[state] for state in sorted(TERMINAL) if state in figures},
            prompt_tokens=figures.get("prompt_tokens", 0),
            completion_tokens=figures.get("completion_tokens", 0),
            cached_tokens=figures.get("cached_tokens", 0),
            run_seconds=figures.get("run_ms", 0) / 1e3,
            device_seconds=figures.get("device_us", 0) / 1e6,
        )
