"""The parts of a run, each a comparison of its own."""

import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from bench.engines import answers, encoding, generating, grammars, poisoning, ranking, windows
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
from bench.engines.serving import stream, system_rate
from bench.engines.states import states
from bench.engines.workload import Demand, beginning_alike, demands, sentences

ALIKE, BEGINNING = 32, 200


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
        asked = beginning_alike(ALIKE, shared=BEGINNING, wanted=plan.shared_tokens, seed=turn)
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
        f"{ALIKE} prompts that share their first {BEGINNING} tokens, at once, the same Llama",
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
            Alike("the same tokens with and without", same_tokens, ALIKE * plan.rounds),
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
    "poison": (poisoning.poison,),
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
