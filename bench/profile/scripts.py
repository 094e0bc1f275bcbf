"""What Redis does for a job, script by script: calls and microseconds, from its slow log."""

import hashlib
from collections import defaultdict
from typing import Any

import msgspec
from redis import Redis

from shared.store import scripts

KEPT = 30_000
"""Commands that are looked at, those inside scripts among them: the last ones of the measured time."""


class Calls(msgspec.Struct, frozen=True):
    """Calls and the microseconds that Redis spent in them, both a job."""

    calls: float
    microseconds: float


def names() -> dict[str, str]:
    """Our scripts by the digest under which they are called where settings are the default ones."""
    texts = {
        name: scripts.whole_script(scripts.FOLDER / f"{name}.lua", "truthgpt")
        for name in scripts.names()
    }
    return {hashlib.sha1(text.encode()).hexdigest(): name for name, text in texts.items()}  # noqa: S324


def listen(redis: "Redis") -> None:
    """Make Redis write down every command from now on."""
    redis.config_set("slowlog-max-len", KEPT)
    redis.config_set("slowlog-log-slower-than", 0)
    redis.slowlog_reset()


def heard(redis: "Redis") -> dict[str, Calls]:
    """Our scripts, a created job. Stops the writing down."""
    redis.config_set("slowlog-log-slower-than", 10_000)
    entries: Any = redis.slowlog_get(KEPT)
    known, found = names(), defaultdict[str, list[int]](list)
    for entry in entries:
        command, _, rest = entry["command"].partition(b" ")
        if command.upper() == b"EVALSHA":
            name = known.get(rest.split(b" ", 1)[0].decode(), "another script")
            found[name].append(entry["duration"])
    jobs = len(found.get("create", ())) or 1
    return {name: Calls(len(took) / jobs, sum(took) / jobs) for name, took in found.items()}
