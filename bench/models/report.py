"""A result as Markdown, for the terminal and for `bench/results`."""

from bench.models.result import Entry, Outcome, Result, p95_ratio, rate_ratio
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
    heads = (
        "subject", f"{outcome.unit}/s", "p50, ms", "p95, ms", "answers like ours", "our rate by its",
    )  # fmt: skip
    rows = [_row(outcome.entries[0], entry) for entry in outcome.entries]
    return "\n\n".join(
        (
            f"## {outcome.title}",
            _verdict(outcome),
            table(heads, rows),
            "\n".join(f"- {entry.name}: {entry.settings}" for entry in outcome.entries),
        )
    )


def _verdict(outcome: Outcome) -> str:
    """Ours beside the best peer."""
    ours, best = outcome.entries[0], outcome.best
    if best is None:
        return "**No peer has answered.**"
    rate, p95 = rate_ratio(ours, best), p95_ratio(ours, best)
    goals = [f"{outcome.unit}/s: goal ≥ {outcome.rate_goal:g}"]
    if outcome.p95_goal:
        goals.append(f"p95: goal ≤ {outcome.p95_goal:g}")
    return (
        f"**{rate.median:.2f} × the {outcome.unit}/s of {best.name}** ({rate.low:.2f} - {rate.high:.2f}"
        f" within a round), **{p95.median:.2f} × its p95** ({p95.low:.2f} - {p95.high:.2f});"
        f" {'; '.join(goals)}"
    )


def _row(ours: Entry, entry: Entry) -> tuple[str, ...]:
    if not entry.turns:
        return (entry.name, f"did not answer: {entry.failed}", "", "", "", "")
    return (
        entry.name,
        spread_text([turn.rate for turn in entry.turns], 1),
        spread_text([turn.p50 * 1000 for turn in entry.turns], 0),
        spread_text([turn.p95 * 1000 for turn in entry.turns], 0),
        f"{entry.alike} of {entry.of}",
        _times(ours, entry),
    )


def _times(ours: Entry, entry: Entry) -> str:
    if entry is ours:
        return ""
    goal = f", goal ≥ {entry.goal:g}" if entry.goal else ""
    return f"{rate_ratio(ours, entry).median:.2f} ×{goal}"
