"""What Redis does for a job, script by script: calls and microseconds, from its slow log."""

import hashlib
from collections import defaultdict
from typing import Any

import msgspec
from redis import Redis

from shared.store import scripts

KEPT = 30_000
"""Commands that are looked at, those inside scripts among them: the last ones of the measured time."""

ARGUMENTS_BEFORE = 3
"""EVALSHA, the digest, and how many keys there are: what follows is a job each where it is `create`."""


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
    # As Redis says it, argument by argument: one call makes several jobs, and redis-py joins the arguments.
    entries: Any = redis.execute_command("SLOWLOG", "GET", KEPT)  # type: ignore[no-untyped-call]
    known, found, jobs = names(), defaultdict[str, list[int]](list), 0
    for _, _, duration, command, *_ in entries:
        if command[0].upper() == b"EVALSHA":
            name = known.get(command[1].decode(), "another script")
            found[name].append(duration)
            jobs += len(command) - ARGUMENTS_BEFORE if name == "create" else 0
    jobs = jobs or 1
    return {name: Calls(len(took) / jobs, sum(took) / jobs) for name, took in found.items()}
