"""A result as Markdown, for the terminal and for `bench/results`."""

from bench.engines.result import Part, Result
from bench.reporting.machine import machine_lines
from bench.reporting.report import spread_text
from bench.reporting.table import table

QUICK_NOTE = (
    " Quick requests are few and short and hardly fill a batch: the goals are for a full run."
)


def render(result: Result) -> str:
    """The whole report."""
    parts = [
        f"# {'Quick benchmark' if result.quick else 'Benchmark'} of the engines, {result.date}",
        machine_lines(result.machine),
        "Subjects in turn, round by round, on the same machine; medians (smallest - largest). "
        f"How: docs/benchmarks.md.{QUICK_NOTE if result.quick else ''}",
        *(_part(part) for part in result.parts),
    ]
    return "\n\n".join(parts) + "\n"


def _part(part: Part) -> str:
    texts = [f"## {part.title}"]
    if part.ratios:
        texts.append(_ratios(part))
    texts += [f"{alike.figure}: **{alike.same} of {alike.of}**" for alike in part.alike]
    if part.series:
        texts.append(_series(part))
    texts.append("\n".join(f"- {line}" for line in part.settings))
    return "\n\n".join(texts)


def _ratios(part: Part) -> str:
    rows = [
        (
            ratio.figure,
            f"{ratio.value.median:.{ratio.digits}f}",
            f"{ratio.value.low:.{ratio.digits}f} - {ratio.value.high:.{ratio.digits}f}",
            ratio.goal,
        )
        for ratio in part.ratios
    ]
    return table(("ours, as a multiple", "ratio", "within a round", "goal"), rows)


def _series(part: Part) -> str:
    rows = [
        (
            series.subject,
            series.figure,
            spread_text(series.values, series.digits),
            " ".join(f"{value:,.{series.digits}f}" for value in series.values),
        )
        for series in part.series
    ]
    return table(("subject", "figure", "median", "by round"), rows)
