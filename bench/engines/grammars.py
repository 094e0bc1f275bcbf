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

from bench.engines.driving import Driven, drive
from bench.engines.generating import THREADS, packed_engine
from bench.engines.hostile import refusals
from bench.engines.llama import SEED
from bench.engines.plan import Plan
from bench.engines.result import Part, Ratio, Series, common
from shared.domain.models.catalog import Limits
from workers.engines.base import Work
from workers.engines.loading.vocabulary import byte_level_alphabet
from workers.engines.text_generation.grammar.masks import spare_threads, unpacked
from workers.engines.text_generation.grammar.matchers import Grammars, Matcher

STREAMS = 32
VOCABULARY = 8192
LARGE_VOCABULARY = 128 * 1024
PROPERTIES = 200
ROUNDS = 4
"""Times the rounds of the plan: many short turns, for the ratios are close to 1."""
TOKENS = 32
"""Of each stream in a turn."""
FIRSTS = 6
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
        limits = Limits(max_prompt_tokens=64, max_new_tokens=1024)
        self._engine, info = packed_engine(folder, STREAMS, limits)
        self._capacity = info.capacity

    def turn(self, held: int, tokens: int) -> tuple[float, float]:
        """Tokens a second of all streams, `held` of which follow a grammar; and a second of the processor."""
        cpu = time.process_time()
        driven = self._run(STREAMS, held, tokens)
        cpu = time.process_time() - cpu
        return driven.completion_tokens / driven.seconds, driven.completion_tokens / cpu

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
    streams.turn(STREAMS, 4)
    names = {0: "32 plain", 1: "31 plain, 1 held", STREAMS: "32 held"}
    rates: dict[int, list[float]] = {held: [] for held in names}
    thrifts: dict[int, list[float]] = {held: [] for held in names}
    firsts: dict[bool, list[float]] = {False: [], True: []}
    for number in range(ROUNDS * max(1, plan.rounds)):
        # Each comes first as often as last: a machine may slow down within a round.
        for held in [*names][:: -1 if number % 2 else 1]:
            rate, thrift = streams.turn(held, TOKENS)
            rates[held].append(rate)
            thrifts[held].append(thrift)
            print(f"grammar  {names[held]}: {rate:,.0f} tokens/s", flush=True)
        for turn in range(2 * FIRSTS):
            firsts[turn % 2 == 1].append(1000 * streams.first(held=turn % 2 == 1))
    compiling = [_compile() for _ in range(5)]
    masks, unpacking = _masks()
    return Part(
        "grammar",
        f"Texts that follow a JSON schema beside plain ones, a random Llama, {STREAMS} at once",
        series=[
            *(Series(name, "tokens/s", rates[held]) for held, name in names.items()),
            *(
                Series(name, "tokens a second of processor time", thrifts[held])
                for held, name in names.items()
            ),
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
            *(
                Series(
                    f"{STREAMS} masks, {LARGE_VOCABULARY:,} tokens",
                    f"{figure} of a step, ms",
                    [value],
                    digits=2,
                )
                for figure, value in (
                    ("mean", float(np.mean(masks))),
                    ("median", float(np.median(masks))),
                    ("p95", float(np.percentile(masks, 95))),
                )
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
            Ratio(f"{figure}: {name} / 32 plain", goal, common(found[held], found[0]), digits=3)
            for figure, found in (("tokens/s", rates), ("tokens a processor second", thrifts))
            for held, name, goal in (
                (1, "31 plain and 1 held", "≥ 0.97"),
                (STREAMS, "32 held", "≥ 0.85"),
            )
        ],
        alike=[],
        settings=[
            f"{TOKENS} tokens a stream and turn, {VOCABULARY} tokens of vocabulary, {THREADS} thread",
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
