"""What a profile found, and how it is printed."""

import msgspec

from bench.profile.scripts import Calls
from bench.profile.timeline import LEGS, Timeline
from bench.reporting.machine import Machine, machine_lines
from bench.reporting.table import table

REST = "reading, writing, append-only file"
MARK = 0.5
"""Microseconds; what takes less is not printed."""


class Profile(msgspec.Struct, frozen=True):
    """One run. `cpu_ms` and `rate` (jobs/s) are of a turn that nobody watched; `stages` are microseconds a
    job by group and stage, in the shares of a second turn that was sampled.
    """

    date: str
    machine: Machine
    clients: int
    seconds: float
    rate: float
    cpu_ms: dict[str, float]
    stages: dict[str, dict[str, float]]
    commands: float
    calls: dict[str, float]
    scripts: dict[str, Calls]
    timeline: Timeline


def stages(
    cpu_ms: dict[str, float], seconds: dict[str, dict[str, float]]
) -> dict[str, dict[str, float]]:
    """Microseconds a job by group and stage: the measured whole in the shares of what was sampled."""
    found = {}
    for group, spent in seconds.items():
        whole = sum(spent.values()) or 1.0
        found[group] = {
            stage: cpu_ms[group] * 1000 * share / whole for stage, share in spent.items()
        }
    return found


def redis_stages(cpu_ms: float, busy: float, scripts: dict[str, Calls]) -> dict[str, float]:
    """The same of Redis: scripts by name, and what it does around them.

    `busy`: microseconds a job in scripts, by Redis' own statistics. They count time, not processor time, so
    that on a busy machine there may be more of them than of the whole. `scripts` are for the shares alone:
    writing the slow log takes time of its own.
    """
    whole, logged = cpu_ms * 1000, sum(took.microseconds for took in scripts.values()) or 1.0
    share = min(busy, whole) / logged
    found = {f"script {name}": took.microseconds * share for name, took in scripts.items()}
    return {**found, REST: whole - sum(found.values())}


def render(profile: Profile) -> str:
    """The report as Markdown."""
    whole = sum(profile.cpu_ms.values()) * 1000
    rows = []
    for group, spent in profile.cpu_ms.items():
        rows.append(
            (f"**{group}**", "", f"**{spent * 1000:,.0f}**", f"**{spent * 1e5 / whole:.1f}**")
        )
        found = sorted(profile.stages.get(group, {}).items(), key=lambda item: -item[1])
        rows += [
            ("", stage, f"{took:,.0f}", f"{100 * took / whole:.1f}")
            for stage, took in found
            if took >= MARK
        ]
    rows.append(("**all**", "", f"**{whole:,.0f}**", "**100**"))
    line = profile.timeline
    calls = [(name, f"{n:.2f}") for name, n in sorted(profile.calls.items(), key=lambda i: -i[1])]
    scripts = [
        (name, f"{took.calls:.2f}", f"{took.microseconds:.0f}")
        for name, took in sorted(profile.scripts.items(), key=lambda item: -item[1].microseconds)
        if took.microseconds >= MARK
    ]
    legs = [(leg, f"{took:.2f}") for leg, took in zip(LEGS, line.legs, strict=True)]
    parts = [
        f"# Where a job's time goes, {profile.date}",
        machine_lines(profile.machine),
        f"Echo jobs through `POST /v1/infer`, {profile.clients} clients, {profile.seconds:g} s, "
        f"{profile.rate:,.0f} jobs/s. How: docs/performance.md.",
        "Processor microseconds a job:\n\n" + table(("process", "stage", "us", "%"), rows),
        f"Redis commands a job, in scripts too: {profile.commands:.1f}; by name:\n\n"
        + table(("command", "a job"), calls),
        "Scripts by the slow log, whose writing takes time of its own:\n\n"
        + table(("script", "calls a job", "us a job"), scripts),
        f"One client, {line.requests} requests: p50 **{line.p50:.2f} ms**, p99 {line.p99:.2f} ms. "
        "The medians of its parts, by what Redis saw and when (MONITOR):\n\n"
        + table(("part", "ms"), legs),
    ]
    return "\n\n".join(parts) + "\n"
