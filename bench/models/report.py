"""A result as Markdown, for the terminal and for `bench/results`."""

from bench.models.result import Entry, Outcome, Result, rates
from bench.reporting.figures import ratio
from bench.reporting.machine import machine_lines
from bench.reporting.report import spread_text
from bench.reporting.table import table


def render(result: Result) -> str:
    """The whole report."""
    parts = [
        f"# {'Quick benchmark' if result.quick else 'Benchmark'} of models over HTTP, {result.date}",
        machine_lines(result.machine),
        "Subjects in turn, each started anew; closed loops; medians (smallest - largest). "
        "How: docs/benchmarks.md.",
        *(_outcome(outcome) for outcome in result.outcomes),
    ]
    return "\n\n".join(parts) + "\n"


def _outcome(outcome: Outcome) -> str:
    rate, p95 = outcome.rate_ratio, outcome.p95_ratio
    goals = [f"{outcome.unit}/s: goal ≥ {outcome.rate_goal:g}"]
    if outcome.p95_goal:
        goals.append(f"p95: goal ≤ {outcome.p95_goal:g}")
    rows = [
        (
            entry.name,
            spread_text([turn.rate for turn in entry.turns], 1),
            spread_text([turn.p50 * 1000 for turn in entry.turns], 0),
            spread_text([turn.p95 * 1000 for turn in entry.turns], 0),
            f"{entry.alike} of {entry.of}",
            _times(outcome.entries[0], entry),
        )
        for entry in outcome.entries
    ]
    heads = (
        "subject", f"{outcome.unit}/s", "p50, ms", "p95, ms", "answers like ours", "our rate by its",
    )  # fmt: skip
    return "\n\n".join(
        (
            f"## {outcome.title}",
            f"**{rate.median:.2f} × the {outcome.unit}/s of {outcome.best.name}** ({rate.low:.2f} - "
            f"{rate.high:.2f} within a round), **{p95.median:.2f} × its p95** ({p95.low:.2f} - "
            f"{p95.high:.2f}); {'; '.join(goals)}",
            table(heads, rows),
            "\n".join(f"- {entry.name}: {entry.settings}" for entry in outcome.entries),
        )
    )


def _times(ours: Entry, entry: Entry) -> str:
    if entry is ours:
        return ""
    goal = f", goal ≥ {entry.goal:g}" if entry.goal else ""
    return f"{ratio(rates(ours), rates(entry)).median:.2f} ×{goal}"
