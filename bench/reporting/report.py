"""A result as Markdown, for the terminal and for `bench/results`."""

import statistics
from collections.abc import Iterable, Sequence

from bench.reporting.figures import spread
from bench.reporting.goals import FIGURES
from bench.reporting.machine import machine_lines
from bench.reporting.result import Compared, Entry, Outcome, Result
from bench.reporting.table import table
from bench.turn import Turn

COMPARED = ("figure", "against", "goal", "reached (lowest - highest round)", "")
VERDICTS = {True: "reached", False: "**missed**", None: ""}


def render(result: Result, plot: str) -> str:
    """The whole report. `plot` is its line about the plot."""
    plan = result.plan
    left_out = {
        title: why for outcome in result.outcomes for title, why in outcome.left_out.items()
    }
    parts = [
        f"# {'Quick benchmark' if result.quick else 'Benchmark'}, {result.date}",
        machine_lines(result.machine),
        f"{plan.rounds} round{'s' if plan.rounds > 1 else ''}, subjects in turn, each started anew; "
        f"{plan.warm_up:g} s warm-up, {plan.seconds:g} s measured; requests of the shape `{plan.shape}`; "
        "medians (smallest - largest). "
        "How: docs/benchmarks.md.",
        *(f"**LEFT OUT, not measured: {title}.** {why}" for title, why in left_out.items()),
        _goals(result.outcomes),
        plot,
        *(_outcome(outcome) for outcome in result.outcomes),
    ]
    return "\n\n".join(parts) + "\n"


def _outcome(outcome: Outcome) -> str:
    how = (
        f"{outcome.clients} client{'s' if outcome.clients > 1 else ''}"
        if outcome.arrivals is None
        else f"{outcome.arrivals:,.0f} jobs arriving a second"
    )
    parts = [f"## {outcome.title}, {how}", _compared(outcome), _figures(outcome.entries)]
    parts.append("Processor milliseconds a job:\n\n" + _processors(outcome.entries))
    parts.append("Redis commands a job, in scripts too:\n\n" + _commands(outcome.entries))
    title = FIGURES[outcome.figure].title.capitalize()
    parts.append(f"{title}, round by round:\n\n" + _rounds(outcome.entries, outcome.figure))
    parts.append("\n".join(f"- {_title(entry)}: {entry.settings}" for entry in outcome.entries))
    return "\n\n".join(parts)


def _goals(outcomes: Sequence[Outcome]) -> str:
    judged = [c for outcome in outcomes for c in outcome.compared if c.goal is not None]
    reached = sum(c.met is True for c in judged)
    rows = [
        (outcome.contest, *_row(c))
        for outcome in outcomes
        for c in outcome.compared
        if c.goal is not None
    ]
    head = ("contest", *COMPARED)
    return f"## Goals: {reached} of {len(judged)} reached\n\n" + table(head, rows)


def _compared(outcome: Outcome) -> str:
    return table(COMPARED, [_row(c) for c in outcome.compared])


def _row(compared: Compared) -> tuple[str, ...]:
    figure = FIGURES[compared.figure]
    goal = compared.goal.text if compared.goal else ""
    return (figure.title, _against(compared), goal, _reached(compared), VERDICTS[compared.met])


def _against(compared: Compared) -> str:
    if not compared.peer:
        return "(ours alone)"
    return f"{compared.peer} ({compared.variant})" if compared.variant else compared.peer


def _reached(compared: Compared) -> str:
    if compared.reached is None:
        return "not measured"
    unit = " ×" if compared.peer else FIGURES[compared.figure].unit
    over = compared.reached
    return f"{over.median:.2f}{unit} ({over.low:.2f} - {over.high:.2f})"


def _figures(entries: Sequence[Entry]) -> str:
    rows = []
    for entry in entries:
        reports = [turn.report for turn in entry.turns]
        wrong = sum(report.wrong for report in reports)
        rows.append(
            (
                _title(entry),
                spread_text(entry.values("rate"), 0),
                spread_text(entry.values("p50"), 1),
                spread_text([report.latency.p95 for report in reports], 1),
                spread_text(entry.values("p99"), 1),
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


def _rounds(entries: Sequence[Entry], figure: str) -> str:
    count = max(len(entry.turns) for entry in entries)
    digits = FIGURES[figure].digits
    rows = [
        (_title(entry), *(f"{value:,.{digits}f}" for value in entry.values(figure)))
        for entry in entries
    ]
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
