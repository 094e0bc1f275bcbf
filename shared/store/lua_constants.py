"""Constants that Python and the Lua scripts share: spelled in Python, and written into the scripts.

`constants` gives each by its name in Lua, which no script spells itself.
"""

from collections.abc import Mapping, Sequence

from shared.domain.events import CREATED, STARTED
from shared.domain.schemas import MAX_EXPIRES_IN
from shared.domain.states import CLASSES, MAX_CRASHES, lua_moves
from shared.domain.write_results import LeaseResult, WriteResult
from shared.store import breaker, stats

STEPS = 64
"""In how many steps what ended jobs hold is counted as gone, one after the other."""
FIGURES = ("prompt_tokens", "completion_tokens", "cached_tokens", "run_ms")
"""What of a job's usage is added up for its tenant."""
USAGE_DAYS = 93
"""How long a tenant's days of usage are kept."""
CLAIM_FIELDS = (
    *("id", "attempt", "tenant", "deadline", "created", "failures", "crashes"),
    *("traceparent", "request_id", "device_us", "estimate", "class"),
)
"""What a worker gets of a job's record; its request follows."""
FOLLOWERS_MAX = 32
"""Jobs that may wait for the result of one."""
LANDED_BYTES = 4 * 2**20
"""Of outputs that the end of a job writes to its followers; those who are left run by themselves."""
RATE_SLOTS = 60
"""Parts of a rate limit's sliding window; a unit counts until its part has left the window wholly."""
BELL_MS = 5000
"""For which a doorbell counts as being on its way."""
ASKED_BYTES = 110
"""What a job's `asked` takes beside its own bytes: see lua/lib/storage.lua."""

REPLY_PREFIX = "v2-"
"""How the reply channels of processes begin that take several completions in one message, and ask for a job's
events before they read them. Those of the versions before have no prefix."""

Value = str | int | float | Sequence[str]


def constants(retention: int) -> Mapping[str, str]:
    """Names and values as Lua spells them, for jobs kept for `retention` seconds once they have ended.

    HORIZON is in seconds: twice the longest deadline and the retention. MOVES are those that states.py
    allows. CREATED and CREATED_DATA are id and data of every job's first event, STARTED and
    STARTED_DATA those of the event with which its first attempt begins.
    """
    values: dict[str, Value] = {
        "HORIZON": str(2 * (MAX_EXPIRES_IN + retention)),
        "RETENTION": retention,
        "GRID": max(1, retention // STEPS),
        "MOVES": lua_moves(),
        "CLASSES": CLASSES,
        "CREATED": str(CREATED.id),
        "CREATED_DATA": CREATED.data.decode(),
        "STARTED": str(STARTED.id),
        "STARTED_DATA": STARTED.data.decode(),
        "REPLY_PREFIX": REPLY_PREFIX,
        "MAX_CRASHES": MAX_CRASHES,
        "BELL_MS": BELL_MS,
        "ASKED_BYTES": ASKED_BYTES,
        "CLAIM_FIELDS": CLAIM_FIELDS,
        "FIGURES": FIGURES,
        "USAGE_SECONDS": USAGE_DAYS * 86400,
        "GAMMA": stats.GAMMA,
        "STATS_SECONDS": stats.KEPT_SECONDS,
        "FOLLOWERS_MAX": FOLLOWERS_MAX,
        "LANDED_BYTES": LANDED_BYTES,
        "BREAKER_SLOTS": breaker.SLOTS,
        "MAX_DOUBLINGS": breaker.MAX_DOUBLINGS,
        "RATE_SLOTS": RATE_SLOTS,
        **{f"WRITE_{result.name}": int(result) for result in WriteResult},
        **{f"LEASE_{result.name}": int(result) for result in LeaseResult},
    }
    return {name: _in_lua(value) for name, value in values.items()}


def _in_lua(value: Value) -> str:
    if isinstance(value, str):
        if {"'", "\\", "\n"} & set(value):
            raise ValueError(f"{value!r} would need escapes in Lua")
        return f"'{value}'"
    if isinstance(value, int | float):
        return repr(value)
    return "{" + ", ".join(map(_in_lua, value)) + "}"
