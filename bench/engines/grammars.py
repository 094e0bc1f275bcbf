"""Texts that follow a grammar beside texts that follow none, and what grammars cost by themselves."""

import random
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from bench.engines.driving import Driven, Failed, drive
from bench.engines.generating import THREADS
from bench.engines.hostile import refusals
from bench.engines.llama import SEED
from bench.engines.plan import Plan
from bench.engines.result import Part, Ratio, Series, common
from shared.domain.models.catalog import Batch, Limits, ModelSpec
from workers.engines.base import Work
from workers.engines.loading.vocabulary import byte_level_alphabet
from workers.engines.text_generation.engine import TextGeneration
from workers.engines.text_generation.grammar.masks import spare_threads, unpacked
from workers.engines.text_generation.grammar.matchers import Grammars, Matcher

STREAMS = 32
VOCABULARY = 8192
LARGE_VOCABULARY = 128 * 1024
PROPERTIES = 200
FIRSTS = 16
"""Times to a first token in a round."""
STEPS = 64
BESIDE = torch.device("cuda")
"""Masks alone are made as beside a model that leaves the processor alone."""
END = "<|end|>"
ENDLESS: dict[str, Any] = {
    "json_schema": {
        "type": "array",
        "items": {
            "type": "object",
            "properties": {
                "name": {"type": "string", "maxLength": 12},
                "count": {"type": "integer", "minimum": 0, "maximum": 999},
                "kind": {"enum": ["one", "another", "a third"]},
            },
            "required": ["name", "count", "kind"],
            "additionalProperties": False,
        },
        "minItems": 10_000,
    }
}
"""Never complete, so that every text is as long as was asked."""
CATALOGUE: dict[str, Any] = {
    "json_schema": {
        "type": "object",
        "properties": {
            f"property_{number}": (
                {"type": "string", "maxLength": 20},
                {"type": "integer"},
                {"enum": [f"a{number}", f"b{number}"]},
                {"type": "array", "items": {"type": "boolean"}},
            )[number % 4]
            for number in range(PROPERTIES)
        },
        "required": [f"property_{number}" for number in range(PROPERTIES)],
        "additionalProperties": False,
    }
}


def words_tokenizer(size: int) -> PreTrainedTokenizerFast:
    """Byte-level, as of Llama 3 in kind: all bytes, numbers of up to three digits, punctuation of JSON, and
    words of syllables with and without a space before them.
    """
    chance = random.Random(SEED)
    names = dict.fromkeys([END, *byte_level_alphabet(), *map(str, range(10, 1000))])
    names |= dict.fromkeys(('",', '":', '":"', '","', '"}', '{"', "},", "},{", "[{", "}]", '"],'))
    while len(names) < size:
        letters = "".join(
            chance.choice("bcdfghklmnprstvz") + chance.choice("aeiou")
            for _ in range(chance.randint(1, 5))
        )
        names[chance.choice(("", "Ġ")) + chance.choice((letters, letters.title()))] = None
    tokenizer = Tokenizer(models.BPE({name: n for n, name in enumerate(names)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([END])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=END)


def save(folder: Path) -> Path:
    """A random Llama of 32 million parameters with such a tokenizer."""
    torch.manual_seed(SEED)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=512,
        intermediate_size=1408,
        num_hidden_layers=8,
        num_attention_heads=8,
        num_key_value_heads=4,
        max_position_embeddings=2048,
        bos_token_id=None,
        eos_token_id=None,
        initializer_range=0.05,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    words_tokenizer(VOCABULARY).save_pretrained(folder)
    return folder


class Streams:
    """This project's engine with so many slots, and all of them taken."""

    def __init__(self, folder: Path) -> None:
        spec = ModelSpec(
            name="llama",
            engine="text-generation",
            path=folder,
            device="cpu",
            dtype="float32",
            threads=THREADS,
            batch=Batch(max_size=STREAMS, prefix_reuse=False),
            limits=Limits(max_prompt_tokens=64, max_new_tokens=1024),
        )
        self._engine = TextGeneration(spec)
        info = self._engine.load()
        self._capacity = info.capacity
        if info.details["batching"] != "packed":
            raise Failed(f"the engine does not pack: {info.details['reason']}")

    def rate(self, held: int, tokens: int) -> float:
        """Tokens a second of all streams, of which `held` follow a grammar."""
        driven = self._run(STREAMS, held, tokens)
        return driven.completion_tokens / driven.seconds

    def first(self, *, held: bool) -> float:
        """Seconds to the first token of one text alone."""
        [began] = self._run(1, int(held), 4).began.values()
        return began

    def _run(self, streams: int, held: int, tokens: int) -> Driven:
        # `ignore_eos`, so that plain texts are as long as those that never may end.
        params = {"max_new_tokens": tokens, "temperature": 1.0, "ignore_eos": True}
        works = [
            Work(str(n), "a b", params | ({"grammar": ENDLESS} if n < held else {}), seed=n)
            for n in range(streams)
        ]
        return drive(self._engine, works, self._capacity)


def grammar(plan: Plan, scratch: Path) -> Part:
    """Streams with and without a grammar, in turns; then compiling and masks alone."""
    streams = Streams(save(scratch / "words"))
    streams.rate(STREAMS, 4)
    names = {0: "32 plain", 1: "31 plain, 1 held", STREAMS: "32 held"}
    rates: dict[int, list[float]] = {held: [] for held in names}
    firsts: dict[bool, list[float]] = {False: [], True: []}
    for _ in range(max(3, plan.rounds)):
        for held, found in rates.items():
            found.append(streams.rate(held, plan.clock_tokens // 3))
        for turn in range(2 * FIRSTS):
            firsts[turn % 2 == 1].append(1000 * streams.first(held=turn % 2 == 1))
    compiling = [_compile() for _ in range(5)]
    masks, unpacking = _masks()
    return Part(
        "grammar",
        f"Texts that follow a JSON schema beside plain ones, a random Llama, {STREAMS} at once",
        series=[
            *(Series(name, "tokens/s", rates[held]) for held, name in names.items()),
            Series("plain, alone", "first token, ms", _medians(firsts[False]), digits=2),
            Series("held, alone", "first token, ms", _medians(firsts[True]), digits=2),
            Series(
                f"{PROPERTIES} properties, once",
                "compile, ms",
                [once for once, _ in compiling],
            ),
            Series(
                f"{PROPERTIES} properties, known",
                "compile, ms",
                [again for _, again in compiling],
                digits=3,
            ),
            Series(
                f"{STREAMS} masks, {LARGE_VOCABULARY:,} tokens",
                "median of a step, ms",
                [float(np.median(masks))],
                digits=2,
            ),
            Series(
                f"{STREAMS} masks, {LARGE_VOCABULARY:,} tokens",
                "p95 of a step, ms",
                [float(np.percentile(masks, 95))],
                digits=2,
            ),
            Series(
                f"{STREAMS} masks spread to floats",
                "median, ms",
                [float(np.median(unpacking))],
                digits=2,
            ),
            *refusals(max(3, plan.rounds)),
        ],
        ratios=[
            Ratio("tokens/s: 31 plain and 1 held / 32 plain", "≥ 0.97", common(rates[1], rates[0])),
            Ratio("tokens/s: 32 held / 32 plain", "≥ 0.85", common(rates[STREAMS], rates[0])),
        ],
        alike=[],
        settings=[
            f"{plan.clock_tokens // 3} tokens a stream, {VOCABULARY} tokens of vocabulary, {THREADS} thread",
            "goals: compile ≤ 30 ms once, 0 when known; first token + ≤ 3 ms; masks of a step ≤ 4 ms",
            "goal of refusals: < 50 ms each",
            f"masks alone on {spare_threads(BESIDE)} threads",
        ],
    )


def _compile() -> tuple[float, float]:
    """Milliseconds to compile a schema that nobody knows yet, and to begin a text with one that is known."""
    grammars = Grammars(words_tokenizer(VOCABULARY), VOCABULARY, {0})
    grammars.compile({"regex": "a"})
    once = _timed(lambda: grammars.compile(CATALOGUE))
    return once, _timed(lambda: grammars.matcher(CATALOGUE, [], {0}))


def _masks() -> tuple[list[float], list[float]]:
    """Milliseconds of each step's masks for all streams, and of spreading them to floats."""
    tokenizer = words_tokenizer(LARGE_VOCABULARY)
    grammars = Grammars(tokenizer, LARGE_VOCABULARY, {0})
    matchers = [grammars.matcher(ENDLESS, [], {0}) for _ in range(STREAMS)]
    words = np.zeros((STREAMS, grammars.words), dtype=np.int32)
    chance = random.Random(SEED)
    found, spread = [], []

    def write_one(number: int) -> None:
        matcher = matchers[number]
        assert isinstance(matcher, Matcher)
        matcher.write_mask(words[number])

    pool = ThreadPoolExecutor(spare_threads(BESIDE))

    def write() -> None:
        list(pool.map(write_one, range(STREAMS)))

    for _ in range(STEPS):
        found.append(_timed(write))
        spread.append(_timed(lambda: unpacked(torch.from_numpy(words), LARGE_VOCABULARY)))
        for mask, matcher in zip(words, matchers, strict=True):
            assert isinstance(matcher, Matcher)
            ways = np.flatnonzero(np.unpackbits(mask.view("uint8"), bitorder="little"))
            matcher.take(int(chance.choice(ways)))
    return found, spread


def _timed(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return 1000 * (time.perf_counter() - began)


def _medians(values: list[float]) -> list[float]:
    """One a round."""
    rounds = [values[at : at + FIRSTS] for at in range(0, len(values), FIRSTS)]
    return [float(np.median(one)) for one in rounds]
