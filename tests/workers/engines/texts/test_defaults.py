"""A model's own settings give the texts that `generate` gives with them, or refuse the model."""

import random
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import GenerationConfig

from shared.domain.errors import ConfigError
from shared.domain.models.catalog import Batch, Limits, ModelSpec
from tests.engine_driver import drive, resumed
from tests.zoo.models import VOCABULARY, Model, tokenizer
from tests.zoo.visit import generate, words
from workers.engines.base import EngineInfo, Work
from workers.engines.loading.placement import Placement
from workers.engines.text_generation.engine import TextGeneration

COUNT = 14
RANDOM = random.Random(3)
PROMPTS = [[RANDOM.randrange(VOCABULARY) for _ in range(length)] for length in (7, 1, 12)]
LOOPS = [4, 5, 4, 5, 4, 5, 4]


def loaded(settings: dict[str, Any]) -> tuple[Any, TextGeneration, EngineInfo]:
    """A model for reference, and an engine with another of the same kind."""
    config = GenerationConfig(**settings)
    reference, served = Model("llama").make(), Model("llama").make()
    reference.generation_config = served.generation_config = config
    spec = ModelSpec(
        name="tiny",
        engine="text-generation",
        path=Path("/nowhere"),
        batch=Batch(max_size=4, token_budget=24),
        limits=Limits(max_prompt_tokens=96, max_new_tokens=64),
        device="cpu",
    )
    engine = TextGeneration(spec)
    placement = Placement(torch.device("cpu"), torch.float32, tokens=160)
    return reference, engine, engine.serve(tokenizer(), served, placement)


def work(number: int, prompt: list[int], **params: Any) -> Work:
    return Work(str(number), words(prompt), {"max_new_tokens": COUNT, **params}, seed=0)


def without_end(tokens: list[int], end: int | None) -> list[int]:
    return tokens[: tokens.index(end)] if end in tokens else tokens


def said(settings: dict[str, Any]) -> list[list[int]]:
    """What greedy texts would be without a setting; to choose tokens that matter."""
    reference = Model("llama").make()
    reference.generation_config = GenerationConfig(**settings)
    return [generate(reference, prompt, COUNT) for prompt in PROMPTS]


PLAIN = said({})
FIRST, SECOND = PLAIN[0][0], PLAIN[0][1]
END = PLAIN[0][4]
SETTINGS: list[dict[str, Any]] = [
    {"repetition_penalty": 1.7},
    {"no_repeat_ngram_size": 2},
    {"encoder_no_repeat_ngram_size": 1},
    {"encoder_repetition_penalty": 3.0},
    {"suppress_tokens": [FIRST, SECOND]},
    {"begin_suppress_tokens": [FIRST]},
    {"bad_words_ids": [[FIRST], [PLAIN[1][0], PLAIN[1][1]]]},
    {"sequence_bias": [[[SECOND], -30.0], [[FIRST, PLAIN[0][2]], 30.0]]},
    {"eos_token_id": END, "min_new_tokens": 9},
    {"eos_token_id": [END, PLAIN[2][3]], "min_length": 14},
    {"eos_token_id": END},
    {"eos_token_id": END, "exponential_decay_length_penalty": [2, 1.8]},
    {"forced_bos_token_id": 33, "begin_suppress_tokens": [FIRST, PLAIN[1][1]]},
    {"forced_eos_token_id": 44},
    {"repetition_penalty": 1.3, "sequence_bias": [[[SECOND], 5.0]], "suppress_tokens": [FIRST]},
]


@pytest.mark.parametrize("settings", SETTINGS, ids=lambda s: "+".join(s))
def test_greedy_texts_are_those_of_generate(settings: dict[str, Any]) -> None:
    reference, engine, info = loaded(settings)
    works = [work(n, prompt) for n, prompt in enumerate(PROMPTS)]
    end = settings.get("eos_token_id")
    ends = end if isinstance(end, list) else [end]
    generated = [generate(reference, prompt, COUNT) for prompt in PROMPTS]
    assert generated != PLAIN, "the setting changes no text here"
    expected = []
    for tokens in generated:
        for one in ends:
            tokens = without_end(tokens, one)
        expected.append(tokens)

    ran = drive(engine, works)
    again = drive(engine, [resumed(w, ran.pieces.get(w.id, [])[:3]) for w in works])

    assert [ran.text(w.id).split() for w in works] == [words(t).split() for t in expected]
    assert [again.text(w.id) for w in works] == [ran.text(w.id) for w in works]
    assert info.details["generation_config"]["applied"].keys() == settings.keys()


def test_a_request_overrides_the_penalty_of_the_model() -> None:
    _, engine, _ = loaded({"repetition_penalty": 1.7})

    ran = drive(engine, [work(0, PROMPTS[0], repetition_penalty=1.0)])

    assert ran.text("0").split() == words(PLAIN[0]).split()


def test_end_tokens_that_the_vocabulary_lacks_forbid_nothing_to_other_rows() -> None:
    """Beside the end of a row's scores lie those of its neighbours."""
    _, engine, _ = loaded({"eos_token_id": [VOCABULARY + 3]})
    least = {"max_new_tokens": 12, "min_tokens": 12}
    works = [work(n, [n + 1, 7, n + 20], **least) for n in range(3)]

    together = drive(engine, works)

    for one in works:
        plain = Work(one.id, one.content, {"max_new_tokens": 12}, seed=0)
        assert together.text(one.id) == drive(engine, [plain]).text(one.id)


def test_stop_strings_of_the_model_end_a_text() -> None:
    stop = f"w{PLAIN[0][3]}"
    _, engine, _ = loaded({"stop_strings": [stop]})

    ran = drive(engine, [work(0, PROMPTS[0])])

    assert ran.finished("0").output["finish_reason"] == "stop"
    assert stop not in ran.text("0")


def test_sampling_settings_are_told_and_not_applied() -> None:
    _, engine, info = loaded({"do_sample": True, "temperature": 0.6, "top_k": 3, "top_p": 0.9})

    ran = drive(engine, [work(0, PROMPTS[0])])

    assert ran.text("0").split() == words(PLAIN[0]).split()
    assert info.details["generation_config"] == {
        "applied": {},
        "not_applied": {"do_sample": True, "temperature": 0.6, "top_k": 3, "top_p": 0.9},
    }


@pytest.mark.parametrize(
    ("settings", "name"),
    [
        ({"num_beams": 4}, "num_beams"),
        ({"penalty_alpha": 0.6, "top_k": 4}, "penalty_alpha"),
        ({"guidance_scale": 1.5}, "guidance_scale"),
        ({"dola_layers": "high"}, "dola_layers"),
        ({"token_healing": True}, "token_healing"),
        ({"watermarking_config": {"bias": 2.0}}, "watermarking_config"),
        ({"cache_implementation": "quantized"}, "cache_implementation"),
        ({"bad_words_ids": [[VOCABULARY + 3]]}, str(VOCABULARY + 3)),
        ({"repetition_penalty": -1.0}, "repetition_penalty"),
        ({"stop_strings": ["\n", ""]}, "stop_strings"),
        ({"stop_strings": [198]}, "stop_strings"),
    ],
)
def test_what_cannot_be_honoured_refuses_the_model_by_name(
    settings: dict[str, Any], name: str
) -> None:
    with pytest.raises(ConfigError, match=r"generation_config\.json") as error:
        loaded(settings)

    assert name in error.value.detail
