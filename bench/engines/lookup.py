"""Look-up decoding beside none: prompts that are copied from, and texts in which nothing comes back."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from bench.engines.copying import save_copier
from bench.engines.driving import Driven, Failed, drive
from bench.engines.llama import as_text, save_llama, word_tokenizer
from bench.engines.plan import Plan
from bench.engines.result import Alike, Part, Ratio, Series, common, same
from bench.engines.workload import VOCABULARY, documents
from shared.domain.models.catalog import Batch, Limits, ModelSpec, PromptLookup
from workers.engines.base import Work
from workers.engines.text_generation.engine import TextGeneration

LLAMA_LIKE = {"hidden": 512, "intermediate": 1408, "layers": 8, "kv_heads": 4}
"""As large as the Llama of the other parts."""
SLOTS = 8
PROMPT = 160
SURE = 20.0
ROUNDS = 3


@dataclass(slots=True)
class Subject:
    """An engine, and what its rounds brought."""

    name: str
    engine: TextGeneration
    capacity: int
    driven: list[Driven] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)

    def take(self, works: Sequence[Work]) -> None:
        """One more round."""
        began = time.process_time()
        self.driven.append(drive(self.engine, works, self.capacity))
        self.cpu.append(time.process_time() - began)

    @property
    def rates(self) -> list[float]:
        """Tokens by second of a round."""
        return [driven.completion_tokens / driven.seconds for driven in self.driven]

    @property
    def rates_by_cpu(self) -> list[float]:
        """Tokens by second of the processor: what others do on the machine shows less in it."""
        return [
            driven.completion_tokens / spent
            for driven, spent in zip(self.driven, self.cpu, strict=True)
        ]

    @property
    def texts(self) -> list[str]:
        return [output["text"] for _, output in sorted(self.driven[-1].outputs.items())]

    @property
    def drafts(self) -> str:
        """What became of the drafts of a round."""
        driven = self.driven[-1]
        share = driven.accepted_tokens / max(1, driven.drafted_tokens)
        return f"{driven.accepted_tokens} of {driven.drafted_tokens} drafted tokens were right ({share:.0%})"


def copying(at_once: int, plan: Plan, scratch: Path) -> Part:
    """Greedy texts of a model that copies from its prompt, `at_once` of them."""
    tokenizer = word_tokenizer(VOCABULARY)
    folder = scratch / "copier"
    save_copier(folder, tokenizer, vocabulary=VOCABULARY, sure=SURE, **LLAMA_LIKE)
    title = f"copy-heavy prompts, {_crowd(at_once)}"
    params = {"max_new_tokens": plan.lookup_tokens}
    return _part("lookup-copying", title, folder, params, at_once, "≥ 1.5")


def no_copies(at_once: int, plan: Plan, scratch: Path) -> Part:
    """Texts of a random model at random, in which no three tokens come back: what look-up costs."""
    folder = save_llama(scratch / "llama")
    title = f"nothing to copy, {_crowd(at_once)}"
    params = {"max_new_tokens": plan.lookup_tokens, "temperature": 1.0}
    return _part("lookup-in-vain", title, folder, params, at_once, "≥ 0.97")


LOOKUP = tuple(partial(part, many) for part in (copying, no_copies) for many in (1, SLOTS))


def _part(
    name: str, title: str, folder: Path, params: Mapping[str, float], at_once: int, goal: str
) -> Part:
    prompts = documents(max(at_once, 2), length=PROMPT, again=8)
    works = [Work(str(n), as_text(prompt), params, seed=n) for n, prompt in enumerate(prompts)]
    without, ours = _loaded(folder, None), _loaded(folder, PromptLookup())
    for _ in range(ROUNDS):
        for subject in (without, ours):
            if at_once == 1:
                subject.capacity = 1
            subject.take(works)
    alike = Alike("texts as without look-up decoding", same(ours.texts, without.texts), len(works))
    print(f"lookup  {title}: {ours.drafts}, {alike.same} of {alike.of} texts alike", flush=True)
    if params.get("temperature") is None and not ours.driven[-1].accepted_tokens:
        raise Failed("the model was to copy, and no drafted token was right")
    return Part(
        f"{name}-{at_once}",
        f"Look-up decoding: {title}",
        series=[
            series
            for subject in (ours, without)
            for series in (
                Series(subject.name, "tokens/s", subject.rates),
                Series(subject.name, "tokens/s of the processor", subject.rates_by_cpu),
            )
        ],
        ratios=[
            Ratio("tokens/s / without", goal, common(ours.rates, without.rates)),
            Ratio(
                "tokens/s of the processor / without",
                goal,
                common(ours.rates_by_cpu, without.rates_by_cpu),
            ),
        ],
        alike=[alike],
        settings=[
            f"24M parameters, fp32, one thread, prompts of {PROMPT} words, the last 8 of which are the first "
            f"ones again, {params['max_new_tokens']} tokens each, "
            + ("greedy" if "temperature" not in params else "temperature 1, seeded"),
            ours.drafts,
        ],
    )


def _crowd(at_once: int) -> str:
    return f"{at_once} at once" if at_once > 1 else "one at a time"


def _loaded(folder: Path, speculation: PromptLookup | None) -> Subject:
    spec = ModelSpec(
        name="llama",
        engine="text-generation",
        path=folder,
        device="cpu",
        dtype="float32",
        threads=1,
        batch=Batch(max_size=SLOTS, prefix_reuse=False),
        speculation=speculation or "none",
        limits=Limits(max_prompt_tokens=256, max_new_tokens=256),
    )
    engine = TextGeneration(spec)
    info = engine.load()
    return Subject("with look-up" if speculation else "without", engine, info.capacity)
