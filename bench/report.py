"""A result as Markdown, for the terminal and for `bench/results`."""

import statistics
from collections.abc import Iterable, Sequence

from bench.figures import spread
from bench.machine import Machine
from bench.result import Entry, Outcome, Result
from bench.table import table
from bench.turn import Turn


def render(result: Result) -> str:
    """The whole report."""
    plan = result.plan
    parts = [
        f"# {'Quick benchmark' if result.quick else 'Benchmark'}, {result.date}",
        machine_lines(result.machine),
        f"{plan.rounds} rounds, subjects in turn, each started anew; {plan.warm_up:g} s warm-up, "
        f"{plan.seconds:g} s measured; medians (smallest - largest). How: docs/benchmarks.md.",
        *(_outcome(outcome) for outcome in result.outcomes),
    ]
    return "\n\n".join(parts) + "\n"


def machine_lines(machine: Machine) -> str:
    """Where and with what, in three lines."""
    packages = ", ".join(f"{name} {number}" for name, number in machine.packages.items())
    return "\n".join(
        (
            f"- {machine.cpu}, {machine.cores} cores, {machine.memory_gib} GiB, {machine.system}",
            f"- {machine.python}, Redis {machine.redis}, {packages}",
            f"- commit {machine.commit}, load average before the first turn {machine.load}",
        )
    )


def _outcome(outcome: Outcome) -> str:
    parts = [f"## {outcome.title}, {outcome.clients} clients"]
    parts += [
        f"**{c.ratio.median:.2f} × {c.peer}** ({c.variant}; {c.ratio.low:.2f} - {c.ratio.high:.2f} "
        "within a round)"
        for c in outcome.compared
    ]
    parts.append(_figures(outcome.entries))
    parts.append("Processor milliseconds a job:\n\n" + _processors(outcome.entries))
    parts.append("Redis commands a job, in scripts too:\n\n" + _commands(outcome.entries))
    parts.append("Answers a second, round by round:\n\n" + _rounds(outcome.entries))
    parts.append("\n".join(f"- {_title(entry)}: {entry.settings}" for entry in outcome.entries))
    return "\n\n".join(parts)


def _figures(entries: Sequence[Entry]) -> str:
    rows = []
    for entry in entries:
        reports = [turn.report for turn in entry.turns]
        wrong = sum(report.wrong for report in reports)
        rows.append(
            (
                _title(entry),
                spread_text(entry.rates, 0),
                spread_text([report.latency.p50 for report in reports], 1),
                spread_text([report.latency.p95 for report in reports], 1),
                spread_text([report.latency.p99 for report in reports], 1),
                f"{wrong} of {wrong + sum(report.right for report in reports)}",
            )
        )
    return table(("subject", "jobs/s", "p50 ms", "p95 ms", "p99 ms", "wrong"), rows)


def _processors(entries: Sequence[Entry]) -> str:
    groups = _names(turn.cost.cpu_ms for entry in entries for turn in entry.turns)
    rows = []
    for entry in entries:
        cells = [
            _median(turn.cost.cpu_ms[group] for turn in entry.turns if group in turn.cost.cpu_ms)
            for group in groups
        ]
        total = _median(sum(turn.cost.cpu_ms.values()) for turn in entry.turns)
        load = _median(_load_ms(turn) for turn in entry.turns)
        rows.append((_title(entry), *cells, total, load))
    return table(("subject", *groups, "all", "(load generator)"), rows)


def _commands(entries: Sequence[Entry]) -> str:
    rows = []
    for entry in entries:
        commands = entry.turns[-1].cost.commands
        often = sorted(commands.items(), key=lambda item: -item[1].calls)
        listed = ", ".join(f"{name} {c.calls:.2f}" for name, c in often if c.calls >= 0.01)
        rows.append((_title(entry), f"{sum(c.calls for c in commands.values()):.1f}", listed))
    return table(("subject", "all", "by name (last round)"), rows)


def _rounds(entries: Sequence[Entry]) -> str:
    count = max(len(entry.turns) for entry in entries)
    rows = [(_title(entry), *(f"{rate:,.0f}" for rate in entry.rates)) for entry in entries]
    return table(("subject", *(str(n + 1) for n in range(count))), rows)


def _load_ms(turn: Turn) -> float:
    report = turn.report
    return report.cpu_seconds * 1000 / max(1, report.right)


def _median(values: Iterable[float]) -> str:
    known = list(values)
    return f"{statistics.median(known):.3f}" if known else ""


def spread_text(values: Sequence[float], digits: int) -> str:
    """The median, with the smallest and the largest."""
    over = spread(values)
    return f"{over.median:,.{digits}f} ({over.low:,.{digits}f} - {over.high:,.{digits}f})"


def _title(entry: Entry) -> str:
    return f"{entry.name}, {entry.variant}"


def _names(mappings: Iterable[dict[str, float]]) -> list[str]:
    """All keys, each once, in the order in which they are met."""
    return list(dict.fromkeys(name for mapping in mappings for name in mapping))
