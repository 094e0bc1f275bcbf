"""The vLLM engine against a stand-in with the same API: texts, ends, cancels."""

import json
import threading
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from shared.domain.errors import ConfigError, InputRefused
from shared.grammars.json_schemas import GUIDANCE
from tests import fake_vllm
from tests.conftest import eventually
from tests.engine_driver import Ran, drive, resumed
from tests.tiny_models import WIDE_HEADS, byte_level_tokenizer, save_causal, text_spec
from tests.workers.engines.loading.test_tokenizer_file import TEXT, byte_level
from tests.workers.engines.vllm.asking import PROMPTS, expected, work
from workers.engines.base import Failed, Work
from workers.engines.batching.reader import LONG as AT_ONCE
from workers.engines.registry import build
from workers.engines.vllm.adapter import Vllm


@pytest.mark.parametrize(
    ("grammar", "passed"),
    [
        (
            {"json_schema": {"type": "number", "exclusiveMaximum": 1, "title": "t"}},
            {"json": {"x-guidance": GUIDANCE, "type": "number", "maximum": 0.999999999999999}},
        ),
        ({"regex": "^a+?$"}, {"regex": "(?:(?:a){1,})"}),
        ({"choices": ["a", "b"]}, {"choice": ["a", "b"]}),
        ({"lark": 'start: "a"'}, {"grammar": 'start: "a"'}),
    ],
)
def test_a_grammar_is_passed_as_structured_outputs(
    engine: Vllm, grammar: dict[str, Any], passed: dict[str, Any]
) -> None:
    drive(engine, [work("a", grammar=grammar), work("b")])

    held, plain = engine._engine.params[-2:]
    assert held.structured_outputs == fake_vllm.StructuredOutputsParams(**passed)
    assert plain.structured_outputs is None
    assert engine._engine.args.structured_outputs_config["backend"] == "guidance"


def test_a_held_text_is_made_anew_up_to_where_it_was(engine: Vllm) -> None:
    asked = work("a", grammar={"lark": "start: /.*/"})
    whole = drive(engine, [asked])
    half = whole.pieces["a"][: len(whole.pieces["a"]) // 2]

    again = drive(engine, [resumed(asked, half)])

    assert again.text("a") == whole.text("a")
    assert again.streamed("a") == whole.text("a")[len("".join(piece.text for piece in half)) :]
    other = drive(engine, [resumed(replace(asked, content="another prompt"), half)])
    outcome = other.outcomes["a"]
    assert isinstance(outcome, Failed)
    assert outcome.code == "engine_error"


def test_a_grammar_that_cannot_be_enforced_is_refused(engine: Vllm) -> None:
    with pytest.raises(InputRefused) as caught:
        engine.admit(work("a", grammar={"json_schema": {"not": {}}}))

    assert caught.value.code == "invalid_grammar"
    assert engine.pending() == 0


@pytest.mark.parametrize("prompt", PROMPTS)
def test_texts_are_whole_and_stream_piece_by_piece(engine: Vllm, prompt: str) -> None:
    ran = drive(engine, [work("a", prompt)])

    assert ran.text("a") == ran.streamed("a") == expected(prompt, 12)
    assert all(piece.text and piece.token_ids for piece in ran.pieces["a"])


def test_more_jobs_than_places_share_the_batch(engine: Vllm) -> None:
    ran = drive(engine, [work(str(n), PROMPTS[n % 4]) for n in range(7)])

    for n in range(7):
        assert ran.text(str(n)) == expected(PROMPTS[n % 4], 12)
        usage = ran.finished(str(n)).usage
        assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]
        assert usage["batch_size"] <= 3


def test_the_end_token_ends_a_text_and_is_not_part_of_it(engine: Vllm) -> None:
    ids = byte_level_tokenizer()(PROMPTS[0])["input_ids"]
    second = fake_vllm.next_token([*ids, fake_vllm.next_token(ids)])
    ran = drive(engine, [work("a", stop_token_ids=[second])])

    output = ran.finished("a").output
    assert output["finish_reason"] == "stop"
    assert output["text"] == expected(PROMPTS[0], 1)
    assert ran.finished("a").usage["completion_tokens"] == 1


def test_a_stop_string_ends_it_here_and_in_vllm(engine: Vllm) -> None:
    whole = expected(PROMPTS[0], 12)
    stop = whole[3:5]
    ran = drive(engine, [work("a", stop=[stop])])

    assert ran.finished("a").output == {
        "text": whole[: whole.index(stop)],
        "finish_reason": "stop",
    }
    assert engine._engine.requests == {}


def test_a_resumed_text_ends_as_the_uninterrupted_one(engine: Vllm) -> None:
    whole = drive(engine, [work("a", PROMPTS[2])])
    pieces = whole.pieces["a"]
    for cut in range(len(pieces) + 1):
        ran = drive(engine, [resumed(work("a", PROMPTS[2]), pieces[:cut])])
        assert ran.finished("a").output == whole.finished("a").output
        assert ran.finished("a").usage["completion_tokens"] == 12


def test_a_cancel_frees_the_request_and_the_id(engine: Vllm) -> None:
    engine.admit(work("a"))
    engine.step()
    engine.cancel("a")
    engine.cancel("unknown")

    assert engine.pending() == 0 and engine._engine.requests == {}
    assert drive(engine, [work("a")]).text("a") == expected(PROMPTS[0], 12)


def test_an_idle_engine_does_not_ask_vllm(engine: Vllm) -> None:
    engine._engine.fault = RuntimeError("not to be asked")
    step = engine.step()

    assert (step.pieces, step.outcomes, step.batch_size) == ([], [], 0)


@pytest.mark.parametrize("content", [7, "", "x" * 2000])
def test_bad_input_is_refused_refusal(engine: Vllm, content: Any) -> None:
    with pytest.raises(InputRefused):
        engine.admit(work("a", content))
    assert engine.pending() == 0


def test_what_vllm_refuses_is_refused(engine: Vllm) -> None:
    engine._engine.model_config.max_model_len = 1
    with pytest.raises(InputRefused, match="longer than the maximum model length of 1"):
        engine.admit(work("a"))
    assert engine.pending() == 0


@pytest.mark.parametrize("stop", [[], ["e"]])
def test_logprobs_are_told_of_each_token_by_any_attempt(engine: Vllm, stop: list[str]) -> None:
    asked = work("a", logprobs=True, top_logprobs=2, stop=stop)
    whole = drive(engine, [asked])

    output = whole.finished("a").output
    ids = [token for piece in whole.pieces["a"] for token in piece.token_ids]
    assert len(output["logprobs"]) == whole.finished("a").usage["completion_tokens"]
    assert [entry["token_id"] for entry in output["logprobs"]][: len(ids)] == ids
    for entry in output["logprobs"]:
        assert entry["top"][0] == {k: v for k, v in entry.items() if k != "top"}
        assert [other["logprob"] for other in entry["top"]] == [-1 / 8, -2 / 8]
    for cut in range(len(whole.pieces["a"]) + 1):
        again = drive(engine, [resumed(asked, whole.pieces["a"][:cut])])
        assert again.finished("a").output == output


def test_higher_classes_go_first(engine: Vllm) -> None:
    ran = drive(
        engine,
        [replace(work(f"low-{n}"), priority="low") for n in range(3)]
        + [replace(work("high"), priority="high"), work("normal")],
    )

    assert list(ran.outcomes)[:2] == ["high", "normal"]


def test_parameters_reach_vllm(engine: Vllm) -> None:
    drive(engine, [work("a", temperature=0.7, top_p=0.9, top_k=5, min_p=0.1)])
    params = engine._engine.params[-1]

    assert (params.temperature, params.top_p, params.top_k, params.min_p) == (0.7, 0.9, 5, 0.1)
    assert (params.seed, params.max_tokens) == (7, 12)


def test_what_may_be_said_and_when_it_may_end_reach_vllm(engine: Vllm) -> None:
    end = byte_level_tokenizer().eos_token_id
    drive(engine, [work("a", bad_words=["no"], logit_bias={"7": 3.0}, min_tokens=5)])
    first = engine._engine.params[-1]
    one = work("b", ignore_eos=True, stop_token_ids=[299], min_tokens=5)
    drive(engine, [replace(one, text="x", token_ids=(3, 4))])
    second = engine._engine.params[-1]

    assert (first.bad_words, first.logit_bias, first.min_tokens) == (["no"], {7: 3.0}, 5)
    assert (first.stop_token_ids, first.ignore_eos) == ([end], False)
    assert (second.bad_words, second.logit_bias, second.min_tokens) == (None, None, 3)
    assert (second.stop_token_ids, second.ignore_eos) == ([299], True)


def test_several_texts_are_requests_of_their_own_and_one_outcome(engine: Vllm) -> None:
    ran = drive(engine, [work("a", n=3, temperature=0.5), work("b", PROMPTS[2])])

    whole = expected(PROMPTS[0], 12)
    output = ran.finished("a").output
    assert [choice["text"] for choice in output["choices"]] == [whole] * 3
    assert output["text"] == whole and ran.text("b") == expected(PROMPTS[2], 12)
    for choice in range(3):
        said = [piece.text for piece in ran.pieces["a"] if piece.choice == choice]
        assert "".join(said) == whole
    usage = ran.finished("a").usage
    assert usage["completion_tokens"] == 36
    assert usage["total_tokens"] == usage["prompt_tokens"] + 36
    seeds = [params.seed for params in engine._engine.params]
    assert seeds[-4] == 7 and len(set(seeds[-4:-1])) == 3


def test_of_several_texts_each_goes_on_where_it_was(engine: Vllm) -> None:
    whole = drive(engine, [work("a", n=2)])
    first, second = (
        [piece for piece in whole.pieces["a"] if piece.choice == choice] for choice in range(2)
    )
    again = drive(engine, [resumed(work("a", n=2), [*first[:2], *second])])

    assert again.finished("a").output == whole.finished("a").output
    assert again.finished("a").usage["completion_tokens"] == 24
    assert [piece.choice for piece in again.pieces["a"]] == [0] * len(first[2:])


def test_a_text_that_breaks_or_is_refused_takes_its_job_with_it(engine: Vllm) -> None:
    engine._engine.ends_with = "abort"
    ran = drive(engine, [work("a", n=3), work("b")])
    assert isinstance(ran.outcomes["a"], Failed) and ran.text("b") == expected(PROMPTS[0], 12)
    assert engine.pending() == len(engine._texts) == len(engine._engine.requests) == 0

    given = iter([None, ValueError("no more")])
    add = engine._engine.add_request

    def refuses(*arguments: Any, **options: Any) -> str:
        if (error := next(given)) is not None:
            raise error
        return add(*arguments, **options)

    engine._engine.add_request = refuses  # type: ignore[method-assign]
    with pytest.raises(InputRefused, match="no more"):
        engine.admit(work("c", n=2))
    assert engine.pending() == len(engine._texts) == len(engine._engine.requests) == 0


def served(path: Path, **generation: Any) -> Vllm:
    """A model with these settings of its own."""
    save_causal(path, **WIDE_HEADS)
    (path / "generation_config.json").write_text(json.dumps(generation))
    engine = build(text_spec(path, engine="vllm"))
    assert isinstance(engine, Vllm)
    return engine


def test_the_models_own_settings_are_defaults(tmp_path: Path) -> None:
    stop = expected(PROMPTS[0], 12)[3:5]
    engine = served(tmp_path, repetition_penalty=1.3, temperature=0.6, stop_strings=[stop])
    told = engine.load().details["generation_config"]
    ran = drive(engine, [work("own"), work("asked", repetition_penalty=1.0)])

    assert [p.repetition_penalty for p in engine._engine.params[-2:]] == [1.3, 1.0]
    assert ran.finished("own").output["finish_reason"] == "stop"
    assert set(told["applied"]) == {"repetition_penalty", "stop_strings"}
    assert told["not_applied"]["temperature"] == 0.6


@pytest.mark.parametrize(
    "setting", [{"suppress_tokens": [5]}, {"no_repeat_ngram_size": 2}, {"num_beams": 4}]
)
def test_settings_that_vllm_would_ignore_refuse_the_model(
    tmp_path: Path, setting: dict[str, Any]
) -> None:
    engine = served(tmp_path, **setting)

    with pytest.raises(ConfigError, match=next(iter(setting))):
        engine.load()


def test_a_stop_string_may_end_in_the_token_that_ends_the_text(engine: Vllm) -> None:
    tokenizer = byte_level_tokenizer()
    special = tokenizer.all_special_ids[0]
    name = tokenizer.convert_ids_to_tokens(special)
    said = expected(PROMPTS[0], 3)
    engine.admit(work("a", stop=[f"{said[-1]}{name}"], stop_token_ids=[special]))
    text = engine._texts["a"]
    for token in tokenizer(PROMPTS[0] + said)["input_ids"][text.sequence.prompt_length :]:
        assert engine._reader._take(text, token) is None

    assert engine._reader._take(text, special) == "stop"
    assert "".join(chunk.text for chunk in text.said) == said[:-1]


def test_prompts_are_cut_as_the_models_file_says(tmp_path: Path) -> None:
    engine = served(tmp_path)
    file = byte_level(r"\d{1,3}|\D+")
    file.save(str(tmp_path / "tokenizer.json"))
    (tmp_path / "tokenizer_config.json").write_text('{"tokenizer_class": "Qwen2Tokenizer"}')
    engine.load()

    assert engine._validators[""].read(work("a", TEXT)) == file.encode(TEXT).ids


def test_others_go_on_while_a_long_prompt_is_read(
    engine: Vllm, monkeypatch: pytest.MonkeyPatch
) -> None:
    go, read = threading.Event(), engine._validators[""].read

    def slowly(work: Work) -> list[int]:
        assert work.id != "long" or go.wait(10)
        return read(work)

    monkeypatch.setattr(engine._validators[""], "read", slowly)
    engine.admit(work("long", "a" * (AT_ONCE + 1)))
    engine.admit(work("short"))
    ran = Ran()
    while "short" not in ran.outcomes:
        ran.take(engine.step())
    assert ran.text("short") == expected(PROMPTS[0], 12)
    assert engine.pending() == 1 and engine.batch_delay() > 0
    go.set()
    eventually(lambda: ran.take(engine.step()) or "long" in ran.outcomes)

    assert isinstance(refusal := ran.outcomes["long"], Failed)
    assert (refusal.code, refusal.at_admission) == ("prompt_too_long", True)
    assert engine.pending() == 0


def test_a_prompt_that_is_being_read_can_be_canceled(
    engine: Vllm, monkeypatch: pytest.MonkeyPatch
) -> None:
    go = threading.Event()
    monkeypatch.setattr(engine._validators[""], "read", lambda _: [5] if go.wait(10) else [])
    engine.admit(work("long", "a" * (AT_ONCE + 1)))
    engine.cancel("long")
    assert engine.pending() == 0
    go.set()

    assert drive(engine, [work("long")]).finished("long")


@pytest.mark.parametrize("salt", ["", "tenant"])
def test_a_tenant_s_salt_reaches_vllm(engine: Vllm, salt: str) -> None:
    drive(engine, [replace(work("a"), salt=salt)])
    prompt = engine._engine.prompts[-1]

    assert prompt.get("cache_salt", "") == salt
