"""Texts and tokens through the whole system, beside the engine alone."""

from pathlib import Path

from bench.engines.driving import drive
from bench.engines.plan import Plan
from bench.engines.result import Alike, Part, Ratio, Series, common, same
from bench.engines.streaming import delays, system
from bench.engines.workload import sentences
from bench.reporting.figures import percentile
from shared.domain.models.catalog import ModelSpec
from shared.domain.models.catalog_file import DEFAULT_CATALOGUE
from workers.engines.base import Work
from workers.engines.text_generation.engine import TextGeneration

STEP_MS = 20
STREAMS = 32
DEMO = "demo-llama"


def stream(plan: Plan, scratch: Path) -> Part:
    """How long a token is under way, from the engine to the reader of a stream."""
    entry = {
        "engine": "bench.clock_engine:Clock",
        "step_ms": STEP_MS,
        "batch": {"max_size": STREAMS},
    }
    body = {"model": "clock", "prompt": "now", "params": {"tokens": plan.clock_tokens}}
    knock = {**body, "params": {"tokens": 2}}
    counts = (1, STREAMS)
    p50: dict[int, list[float]] = {streams: [] for streams in counts}
    p99: dict[int, list[float]] = {streams: [] for streams in counts}
    with system("clock", entry, knock, scratch / "stream") as running:
        for _ in range(plan.rounds):
            for streams in counts:
                ordered = sorted(delays(running.read([body] * streams, streams).told))
                middle, late = percentile(ordered, 0.5), percentile(ordered, 0.99)
                p50[streams].append(middle)
                p99[streams].append(late)
                print(
                    f"stream  {_streams(streams)}: p50 {middle:.1f} ms, p99 {late:.1f} ms",
                    flush=True,
                )
    goals = {1: ("", ""), STREAMS: (" (goal ≤ 3)", " (goal ≤ 15)")}
    return Part(
        "stream",
        f"From a token's decoding to its frame at the reader, a step of {STEP_MS} ms",
        series=[
            series
            for streams, (goal50, goal99) in goals.items()
            for series in (
                Series(_streams(streams), f"p50 ms{goal50}", p50[streams], digits=2),
                Series(_streams(streams), f"p99 ms{goal99}", p99[streams], digits=2),
            )
        ],
        ratios=[],
        alike=[],
        settings=[
            f"an engine that makes a token for every stream at once, every {STEP_MS} ms; "
            f"{plan.clock_tokens} tokens a stream, counted while all streams run",
            "API, one worker with its engine host, rescue worker and Redis with default settings; one "
            "reader process",
        ],
    )


def system_rate(plan: Plan, scratch: Path) -> Part:
    """demo-llama behind everything, and the same engine with nothing in front of it."""
    prompts = sentences(plan.demo_jobs, middle=25)
    params = {"max_new_tokens": plan.demo_tokens}
    folder = DEFAULT_CATALOGUE.parent / DEMO
    spec = ModelSpec(name=DEMO, engine="text-generation", path=folder, device="cpu", threads=1)
    engine = TextGeneration(spec)
    capacity = engine.load().capacity
    entry = {"engine": "text-generation", "path": str(folder), "device": "cpu", "threads": 1}
    bodies = [{"model": DEMO, "prompt": prompt, "params": params} for prompt in prompts]
    knock = {**bodies[0], "prompt": "The function", "params": {"max_new_tokens": 4}}
    offline: list[float] = []
    through: list[float] = []
    alike = 0
    with system(DEMO, {**entry, "cache": {"enabled": False}}, knock, scratch / "demo") as running:
        # Until it has answered, its start would disturb the engine alone.
        running.read([knock], 1)
        for _ in range(plan.rounds):
            works = [Work(str(n), prompt, params, seed=0) for n, prompt in enumerate(prompts)]
            driven = drive(engine, works, capacity)
            offline.append(driven.completion_tokens / driven.seconds)
            heard = running.read(bodies, STREAMS)
            made = sum(told.job["usage"]["completion_tokens"] for told in heard.told)
            through.append(made / heard.seconds)
            alone = [driven.outputs[work.id]["text"] for work in works]
            alike = same(alone, ["".join(t.text for t in told.tokens) for told in heard.told])
            print(
                f"system  alone {offline[-1]:,.0f} tokens/s, whole system {through[-1]:,.0f}",
                flush=True,
            )
    return Part(
        "system",
        f"{DEMO} through the whole system, {STREAMS} streams, {plan.demo_jobs} jobs",
        series=[
            Series("whole system", "tokens/s", through, digits=0),
            Series("engine alone", "tokens/s", offline, digits=0),
        ],
        ratios=[Ratio("tokens/s / engine alone", "≥ 0.9", common(through, offline))],
        alike=[Alike("the same texts streamed as by the engine alone", alike, len(prompts))],
        settings=[
            f"fp32, one thread on both sides, greedy, at most {plan.demo_tokens} tokens; the engine alone "
            "has all jobs at once",
            "API, one worker with its engine host, rescue worker and Redis with default settings, result "
            "cache off; one reader process; timed from the first request to the last end",
        ],
    )


def _streams(count: int) -> str:
    return f"{count} streams" if count > 1 else "1 stream"
