"""The parts of a run, each a comparison of its own."""

import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from bench.engines import answers, encoding, generating, grammars, poisoning, ranking, windows
from bench.engines.driving import drive
from bench.engines.generating import (
    Answered,
    Continuous,
    Generator,
    Static,
    has_bfloat16,
    read_plain,
)
from bench.engines.llama import save_llama
from bench.engines.lookup import LOOKUP
from bench.engines.plan import Plan
from bench.engines.result import Alike, Part, Ratio, Series, common, same
from bench.engines.states import states
from bench.engines.streaming import delays, system
from bench.engines.workload import Demand, beginning_alike, demands, sentences
from bench.reporting.figures import percentile
from shared.domain.models.catalog import ModelSpec
from shared.domain.models.catalog_file import DEFAULT_CATALOGUE
from workers.engines.base import Work
from workers.engines.text_generation.engine import TextGeneration

STEP_MS = 20
STREAMS = 32
BEGINNING = 200
DEMO = "demo-llama"


def generation(plan: Plan, scratch: Path) -> Part:
    """One Llama, many requests of mixed lengths at once."""
    asked = demands(plan.requests, most=plan.longest)
    folder = save_llama(scratch / "llama")
    ours = generating.Packed(folder)
    plain = read_plain(folder)
    static = [Static(plain, width) for width in plan.widths]
    continuous = Continuous(read_plain(folder))
    alone = Static(plain, 1)
    halves = [generating.Packed(folder, dtype="bfloat16")] if has_bfloat16() else []
    runs = Runs()
    for _ in range(plan.rounds):
        runs.take(ours, asked)
        # All widths once; then the best of them alone.
        for each in static if not runs.best else [runs.best]:
            runs.take(each, asked)
        runs.best = max(static, key=lambda each: max(runs.rates(each), default=0.0))
        runs.take(continuous, asked)
        for half in halves:
            runs.take(half, asked)
        if alone.name not in runs.answers:
            runs.take(alone, asked[: plan.alone])
    assert runs.best is not None
    best = runs.best
    comparable: list[Generator] = [*static, continuous, alone]
    subjects: list[Generator] = [ours, *comparable, *halves]
    our_tokens = runs.answers[ours.name][0].tokens
    return Part(
        "generation",
        f"A random Llama of 24M parameters, fp32, one thread, {plan.requests} requests at once",
        series=[
            series
            for subject in subjects
            for series in (
                Series(subject.name, "useful tokens/s", runs.rates(subject)),
                Series(subject.name, "mean completion, s", runs.completions(subject), digits=2),
                Series(subject.name, "processor s", runs.cpu[subject.name]),
            )
        ],
        ratios=[
            Ratio(f"tokens/s / {best.name}", "≥ 4", common(runs.rates(ours), runs.rates(best))),
            Ratio(
                f"tokens/s / {continuous.name}",
                "≥ 2.2",
                common(runs.rates(ours), runs.rates(continuous)),
            ),
            Ratio(f"tokens/s / {alone.name}", "", common(runs.rates(ours), runs.rates(alone))),
            *(
                Ratio("bfloat16, tokens/s / float32", "", common(runs.rates(h), runs.rates(ours)))
                for h in halves
            ),
            Ratio(
                f"mean completion / {best.name}",
                "≤ 0.3",
                common(runs.completions(ours), runs.completions(best)),
            ),
        ],
        alike=[
            Alike(
                f"the same tokens as {subject.name}",
                same(our_tokens, runs.answers[subject.name][0].tokens),
                len(runs.answers[subject.name][0].tokens),
                # Padding changes a batch's rounding; that is not this project's business.
                wanted=subject is alone,
            )
            for subject in comparable
        ],
        settings=[
            *(f"{subject.name}: {subject.settings}" for subject in subjects),
            f"{alone.name} answers the first {plan.alone} requests only",
        ],
    )


class Runs:
    """What the ways to generate have brought so far, round by round."""

    def __init__(self) -> None:
        self.answers: dict[str, list[Answered]] = {}
        self.cpu: dict[str, list[float]] = {}
        self._rates: dict[str, list[float]] = {}
        self.best: Static | None = None

    def take(self, subject: Generator, asked: Sequence[Demand]) -> None:
        """One more round of a subject."""
        cpu = time.process_time()
        answered = subject.answer(asked)
        self.cpu.setdefault(subject.name, []).append(time.process_time() - cpu)
        self.answers.setdefault(subject.name, []).append(answered)
        rate = answered.rate(asked)
        self._rates.setdefault(subject.name, []).append(rate)
        _tell("generation", f"{subject.name}: {rate:,.0f} tokens/s")

    def rates(self, subject: Generator) -> list[float]:
        return self._rates.get(subject.name, [])

    def completions(self, subject: Generator) -> list[float]:
        return [answered.mean_completion for answered in self.answers[subject.name]]


def identical(plan: Plan, scratch: Path) -> Part:
    """Whether company changes what a greedy text says."""
    asked = demands(plan.identical, most=plan.identical_tokens)
    engine = generating.Packed(save_llama(scratch / "llama"))
    together = engine.answer(asked)
    alone = [engine.answer([demand]).tokens[0] for demand in asked]
    figure = f"greedy tokens in a batch of {generating.SLOTS} and alone"
    alike = Alike(figure, same(together.tokens, alone), len(asked))
    _tell("identical", f"{alike.same} of {alike.of}")
    return Part(
        "identical",
        "Greedy texts in company and alone, the same Llama",
        series=[],
        ratios=[],
        alike=[alike],
        settings=[f"{len(asked)} requests of at most {plan.identical_tokens} tokens; one engine"],
    )


def prefix(plan: Plan, scratch: Path) -> Part:
    """Prompts that begin alike, with what was computed for their beginning shared and not."""
    folder = save_llama(scratch / "llama")
    subjects = {
        name: generating.Packed(folder, reuse=name == "shared")
        for name in ("shared", "computed by each")
    }
    rates: dict[str, list[float]] = {name: [] for name in subjects}
    firsts: dict[str, list[float]] = {name: [] for name in subjects}
    same_tokens, cached = 0, 0
    for turn in range(plan.rounds):
        # Another beginning each round, so that none of them is there already.
        asked = beginning_alike(STREAMS, shared=BEGINNING, wanted=plan.shared_tokens, seed=turn)
        answers = {name: subject.answer(asked) for name, subject in subjects.items()}
        for name, answered in answers.items():
            rates[name].append(answered.rate(asked))
            firsts[name].append(answered.mean_first)
            _tell("prefix", f"{name}: {rates[name][-1]:,.0f} tokens/s, {firsts[name][-1]:.2f} s")
        shared, own = answers.values()
        same_tokens += same(shared.tokens, own.tokens)
        cached = shared.cached
    (ours, theirs), (our_first, their_first) = rates.values(), firsts.values()
    return Part(
        "prefix",
        f"{STREAMS} prompts that share their first {BEGINNING} tokens, at once, the same Llama",
        series=[
            series
            for name in subjects
            for series in (
                Series(f"beginning {name}", "useful tokens/s", rates[name]),
                Series(f"beginning {name}", "mean first token, s", firsts[name], digits=2),
            )
        ],
        ratios=[
            Ratio("tokens/s / beginning computed by each", "", common(ours, theirs)),
            Ratio("first token / beginning computed by each", "", common(our_first, their_first)),
        ],
        alike=[
            Alike("the same tokens with and without", same_tokens, STREAMS * plan.rounds),
        ],
        settings=[
            f"{plan.shared_tokens} tokens each, another beginning each round; {cached} tokens of prompts "
            "were not run",
        ],
    )


def embedding(plan: Plan, scratch: Path) -> Part:  # noqa: ARG001
    """One MiniLM, many texts."""
    folder = encoding.minilm()
    texts = sentences(plan.texts)
    ours = encoding.Packed(folder)
    alone = encoding.Padded(folder, 1)
    fifo = encoding.Padded(folder, 8)
    by_length = encoding.Padded(folder, 8, by_length=True)
    limit = encoding.MatmulLimit(folder, texts)
    subjects: list[encoding.Encoding] = [ours, alone, fifo, by_length]
    rates: dict[str, list[float]] = {subject.name: [] for subject in subjects}
    vectors: dict[str, list[list[float]]] = {}
    gflops = []
    for subject in subjects:
        # The first pass of a model makes what later ones reuse.
        subject.encode(texts[:8])
    for _ in range(plan.rounds + 1):
        gflops.append(limit.gflops(plan.matmul_seconds))
        for subject in subjects:
            # Of the processor: nobody else's work counts, and all sides have one thread.
            began = time.process_time()
            vectors[subject.name] = subject.encode(texts)
            rates[subject.name].append(len(texts) / (time.process_time() - began))
            _tell("embedding", f"{subject.name}: {rates[subject.name][-1]:,.1f} sentences/s")
    allowed = [limit.sentences(each) for each in gflops]
    bound = "the plain matmul limit"
    own = rates[ours.name]
    close = encoding.close(vectors[ours.name], vectors[alone.name])
    return Part(
        "embedding",
        f"MiniLM, fp32, one thread, {len(texts)} texts of {limit.tokens / len(texts):.0f} tokens on average",
        series=[
            *(
                Series(name, "sentences/s of processor time", values)
                for name, values in rates.items()
            ),
            Series(bound, "sentences/s", allowed),
            Series(bound, "GFLOP/s", gflops),
        ],
        ratios=[
            Ratio(f"sentences/s / {fifo.name}", "≥ 1.9", common(own, rates[fifo.name])),
            Ratio(f"sentences/s / {by_length.name}", "≥ 1.25", common(own, rates[by_length.name])),
            Ratio(f"sentences/s / {alone.name}", "", common(own, rates[alone.name])),
            Ratio(f"sentences/s / {bound}", "≥ 0.7", common(own, allowed)),
        ],
        alike=[
            Alike(f"vectors within a cosine of {encoding.CLOSE} of those alone", close, len(texts))
        ],
        settings=[
            *(f"{subject.name}: {subject.settings}" for subject in subjects),
            f"{bound}: {limit.parameters:,} weights of the layers' matrices, two operations for each and "
            "token, at the rate of a product [512, 384] x [384, 1536]; attention and all else cost nothing",
        ],
    )


def poison(plan: Plan, scratch: Path) -> Part:  # noqa: ARG001
    """One job that makes its model fail, among many in full batches, and the same jobs without it."""
    series, ratios, alike = [], [], []
    for subject in (poisoning.Texts(), poisoning.Rows()):
        rates: dict[str, list[float]] = {"all good": [], "one poisoned": []}
        spared = 0
        for _ in range(plan.rounds):
            for name, values in rates.items():
                ran = subject.run(plan.poisoned, poisoned=name == "one poisoned")
                values.append(ran.good / ran.seconds)
                spared += ran.good == plan.poisoned - ran.bad and ran.bad == (name != "all good")
                _tell("poison", f"{subject.name}, {name}: {values[-1]:,.1f} good jobs/s")
        series += [Series(f"{subject.name}, {n}", "good jobs/s", v) for n, v in rates.items()]
        lost = common(rates["one poisoned"], rates["all good"])
        ratios.append(Ratio(f"{subject.name}, good jobs/s / all good", "≥ 0.95", lost))
        figure = f"{subject.name}: runs in which the culprit alone failed, as poison_input"
        alike.append(Alike(figure, spared, 2 * plan.rounds))
    return Part(
        "poison",
        f"One poisoned job among {plan.poisoned:,}, batches of {poisoning.WIDTH}",
        series=series,
        ratios=ratios,
        alike=alike,
        settings=[f"{s.name}: {s.settings}" for s in (poisoning.Texts, poisoning.Rows)],
    )


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
                _tell("stream", f"{_streams(streams)}: p50 {middle:.1f} ms, p99 {late:.1f} ms")
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
            _tell("system", f"alone {offline[-1]:,.0f} tokens/s, whole system {through[-1]:,.0f}")
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


def _tell(part: str, line: str) -> None:
    print(f"{part}  {line}", flush=True)


Measure = Callable[[Plan, Path], Part | list[Part]]

PARTS: dict[str, tuple[Measure, ...]] = {
    "generation": (generation,),
    "identical": (identical,),
    "prefix": (prefix,),
    "lookup": LOOKUP,
    "windows": (windows.windowed,),
    "grammar": (grammars.grammar,),
    "embedding": (embedding,),
    "ranking": (ranking.ranking,),
    "answers": (answers.answers,),
    "poison": (poison,),
    "stream": (stream, system_rate),
    "states": (states,),
}


def measure(name: str, plan: Plan, scratch: Path) -> list[Part]:
    """All parts under a name, with `scratch` for their files, which are removed afterwards."""
    shutil.rmtree(scratch, ignore_errors=True)
    try:
        parts = [part(plan, scratch) for part in PARTS[name]]
        return [each for part in parts for each in (part if isinstance(part, list) else [part])]
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
