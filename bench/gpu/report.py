"""A result as Markdown, for the terminal and for `bench/results`."""

import statistics

from bench.gpu.result import Result, Row
from bench.reporting.table import table


def render(result: Result) -> str:
    """The whole report."""
    device, plan = result.device, result.plan
    nominal = result.bandwidth.nominal
    parts = [
        f"# Text generation on {device.name}, {result.date}",
        f"- {device.name}, {device.memory} GiB, CUDA {device.cuda}, {device.system}\n"
        f"- Python {device.python}, torch {device.torch}, transformers {device.transformers}\n"
        f"- commit {device.commit}, load average before the first turn {device.load}\n"
        f"- bandwidth: {result.bandwidth.measured:,.0f} GB/s measured by copying, "
        + (f"{nominal:,.0f} GB/s nominal" if nominal else "the nominal one is not known"),
        f"Random weights, greedy, prompts of {plan.prompt} tokens, {plan.new} new tokens each, medians of "
        f"{plan.rounds} rounds after one to warm up. tokens/s: from the prompts to the last token. decode: "
        "steps in which every sequence gets a token; its share of what the bandwidth allows, if a step "
        "read all weights and all keys and values once. How: docs/benchmarks.md.",
        *(_model(result, size.name) for size in plan.sizes),
    ]
    return "\n\n".join(parts) + "\n"


def _model(result: Result, size: str) -> str:
    rows = [row for row in result.rows if row.size == size]
    head = (
        "batch",
        "subject",
        "tokens/s",
        "decode tokens/s",
        "of measured",
        "of nominal",
        "ours /",
    )
    ours = {row.batch: row for row in rows if row.subject == rows[0].subject}
    body = [_cells(row, ours[row.batch]) for row in sorted(rows, key=lambda row: row.batch)]
    said = ", ".join(f"{name} {value}" for name, value in result.engines.get(size, {}).items())
    faults = "".join(f"\n- {r.subject} at {r.batch}: {r.fault}" for r in rows if r.fault)
    return f"## {size}\n\n{table(head, body)}\n\n- our engine: {said}{faults}"


def _cells(row: Row, ours: Row) -> tuple[str, ...]:
    ratio = ""
    if row.rates and row is not ours:
        ratio = f"{statistics.median(ours.rates) / statistics.median(row.rates):.2f}"
    return (
        str(row.batch),
        row.subject,
        f"{statistics.median(row.rates):,.0f}" if row.rates else "failed",
        f"{statistics.median(row.decode):,.0f}" if row.decode else "",
        f"{statistics.median(row.shares):.1%}" if row.shares else "",
        f"{statistics.median(row.nominal):.1%}" if row.nominal else "",
        ratio,
    )
