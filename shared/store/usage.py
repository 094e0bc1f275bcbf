"""What tenants have used, summed over their ended jobs by day and model.

The script that ends a job adds it to its day (shared/store/lua/lib/statistics.lua), in the same step, so
every job is counted exactly once, however it ended.
"""

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Any, cast

from shared.domain.states import TERMINAL
from shared.store.jobs import JobStore

EPOCH = date(1970, 1, 1)
PAGE = 1000

Sums = defaultdict[tuple[date, str, str], Counter[str]]
"""By day, tenant and model: what each figure comes to."""


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
    dates = [today - timedelta(days=ago) for ago in reversed(range(days))]
    sums: Sums = defaultdict(Counter)
    _add_counted(store, dates, tenant, sums)
    _add_counted_before(store, dates, tenant, sums)
    return [_row(*whose, figures) for whose, figures in sorted(sums.items())]


def read_stored(store: JobStore, tenant: str | None = None) -> dict[str, int]:
    """How many bytes tenants make Redis hold now, those first that hold most. Raises `RedisError`."""
    start = store.keys("bytes", "")
    names = (key.decode() for key in store.redis.scan_iter(f"{start}*", count=PAGE))
    tenants = [tenant] if tenant is not None else [name.removeprefix(start) for name in names]
    held = {name: store.held_bytes(name) for name in tenants}
    return dict(sorted(held.items(), key=lambda row: -row[1]))


def _add_counted(store: JobStore, dates: list[date], tenant: str | None, sums: Sums) -> None:
    names = {day: [tenant] if tenant is not None else [] for day in dates}
    if tenant is None:
        pipe = store.redis.pipeline(transaction=False)
        for day in dates:
            pipe.smembers(store.keys("usedby", _number(day)))
        found = zip(dates, pipe.execute(), strict=True)
        names = {day: [name.decode() for name in tenants] for day, tenants in found}
    wanted = [(day, whose) for day in dates for whose in names[day]]
    for start in range(0, len(wanted), PAGE):
        part = wanted[start : start + PAGE]
        pipe = store.redis.pipeline(transaction=False)
        for day, whose in part:
            pipe.hgetall(store.keys("used", _number(day), whose))
        for (day, whose), fields in zip(part, pipe.execute(), strict=True):
            for name, value in fields.items():
                figure, model = name.decode().split(" ", 1)
                sums[day, whose, model][figure] += int(value)


def _add_counted_before(store: JobStore, dates: list[date], tenant: str | None, sums: Sums) -> None:
    """Add what the version before counted: all tenants' days in one hash each, which go after 93 days."""
    pipe = store.redis.pipeline(transaction=False)
    for day in dates:
        pipe.exists(store.keys("usage", _number(day)))
    for day in (day for day, kept in zip(dates, pipe.execute(), strict=True) if kept):
        key = store.keys("usage", _number(day))
        for name, value in cast(Any, store.redis.hscan_iter(key, count=PAGE)):
            figure, model, whose = name.decode().split(" ", 2)
            if tenant in (None, whose):
                sums[day, whose, model][figure] += int(value)


def _number(day: date) -> str:
    return str((day - EPOCH).days)


def _row(day: date, tenant: str, model: str, figures: Counter[str]) -> DailyUsage:
    return DailyUsage(
        day=day,
        tenant=tenant,
        model=model,
        jobs={state.value: figures[state] for state in sorted(TERMINAL) if state in figures},
        prompt_tokens=figures["prompt_tokens"],
        completion_tokens=figures["completion_tokens"],
        cached_tokens=figures["cached_tokens"],
        run_seconds=figures["run_ms"] / 1e3,
        device_seconds=figures["device_us"] / 1e6,
    )
