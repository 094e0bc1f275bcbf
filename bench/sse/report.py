"""A result as Markdown, for the terminal and for `bench/results`."""

from bench.reporting.machine import machine_lines
from bench.reporting.table import table
from bench.sse.result import MOST_KB, MOST_P99_MS, Result


def render(result: Result) -> str:
    """The whole report."""
    plan = result.plan
    return (
        "\n\n".join(
            [
                f"# {'Quick benchmark' if result.quick else 'Benchmark'} of held streams, {result.date}",
                machine_lines(result.machine),
                f"One API process, {plan.streams:,} streams (`GET /v1/jobs/{{id}}/events`), an event a "
                f"second to each for {plan.beats} s, the first {plan.skipped} s not timed. Memory is the "
                "growth of what the process shares with no other (USS). How: docs/benchmarks.md.",
                _figures(result),
                "Goals: at least 3,000 streams, "
                f"at most {MOST_KB:g} KB each, p99 at most {MOST_P99_MS:g} ms.",
            ]
        )
        + "\n"
    )


def _figures(result: Result) -> str:
    rows: list[tuple[str, list[str]]] = [
        ("KB a stream, open", [f"{held.open_kb:.1f}" for held in result.held]),
        ("KB a stream, after all events", [f"{held.fed_kb:.1f}" for held in result.held]),
        *(
            (f"append to arrival, {name}, ms", [f"{held.delays_ms[n]:.1f}" for held in result.held])
            for n, name in enumerate(("p50", "p95", "p99", "longest"))
        ),
        ("processor µs a frame", [f"{held.event_us:.0f}" for held in result.held]),
        ("s until all were open", [f"{held.opening_s:.1f}" for held in result.held]),
        ("MB before the first stream", [f"{held.empty_mb:.1f}" for held in result.held]),
        ("feeder late by at most, s", [f"{held.late_s:.2f}" for held in result.held]),
        ("requests refused at first", [str(held.refused) for held in result.held]),
        ("streams that were not whole", [str(held.wrong) for held in result.held]),
    ]
    heads = [f"{held.streams:,} streams of {held.jobs:,} jobs" for held in result.held]
    return table(("figure", *heads), [(name, *values) for name, values in rows])
