"""Messages reach the model through its chat template; what that refuses is the caller's fault."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from shared.domain.errors import PROBLEMS
from tests.engine_driver import drive
from tests.tiny_models import (
    CHAT_TEMPLATE,
    LLAMA,
    byte_level_tokenizer,
    save_causal,
    sentencepiece_tokenizer,
)
from tests.workers.engines.text_generation.texts import loaded, refusal
from workers.engines.base import Work
from workers.engines.batching.reader import LONG
from workers.engines.text_generation.engine import TextGeneration
from workers.host.loop import Loop
from workers.host_protocol.messages import Command, Stepped, Stop, Submit


def test_messages_go_through_the_chat_template(llama: Path, tmp_path: Path) -> None:
    path = save_causal(tmp_path, **LLAMA)
    (path / "chat_template.jinja").write_text(CHAT_TEMPLATE)
    engine = loaded(path)
    chat = {"messages": [{"role": "user", "content": "hello"}]}

    ran = drive(engine, [Work("x", chat, {"max_new_tokens": 9}, 0)])

    plain = Work("x", "user: hello\nassistant:", {"max_new_tokens": 9}, 0)
    output = dict(ran.finished("x").output)
    assert output.pop("message") == {"role": "assistant", "content": output["text"]}
    alone = drive(loaded(llama), [plain]).finished("x")
    assert (output, ran.finished("x").usage) == (alone.output, alone.usage)


TURNS = [
    {"role": "system", "content": "be brief"},
    {"role": "user", "content": "hello"},
    {"role": "assistant", "content": "hi"},
    {"role": "tool", "content": "7"},
    {"role": "user", "content": "bye"},
]


def chatting(folder: Path, template: str, **tokenizer: Any) -> TextGeneration:
    path = save_causal(folder, **LLAMA, **tokenizer)
    (path / "chat_template.jinja").write_text(template)
    return loaded(path)


def prompt_of(engine: TextGeneration, messages: list[dict[str, str]]) -> str:
    """What the engine runs for these messages, as text."""
    engine.admit(Work("x", {"messages": messages}, {"max_new_tokens": 1}, 0))
    tokens = engine._sequences["x"].tokens
    engine.cancel("x")
    text: str = byte_level_tokenizer().decode(tokens)
    return text


def test_every_role_reaches_the_template_and_the_model_is_asked_to_answer(tmp_path: Path) -> None:
    template = (
        "{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}"
        "{% if add_generation_prompt %}[answer]{% endif %}"
    )

    prompt = prompt_of(chatting(tmp_path, template), TURNS)

    assert prompt == "[system]be brief[user]hello[assistant]hi[tool]7[user]bye[answer]"


def test_what_the_template_adds_counts_towards_the_prompts_limit(tmp_path: Path) -> None:
    engine = chatting(tmp_path, "{{ 'x' * 90 }}{{ messages[0].content }}")
    short, long = ([{"role": "user", "content": "yz" * n}] for n in (3, 4))

    assert prompt_of(engine, short) == "x" * 90 + "yz" * 3
    error = refusal(engine, {"messages": long})
    assert error.code == "prompt_too_long"
    assert "98 tokens" in error.detail


def test_a_template_that_writes_the_first_token_gets_no_second_one(tmp_path: Path) -> None:
    tokenizer = sentencepiece_tokenizer()
    engine = chatting(tmp_path, "{{ bos_token }}{{ messages[0].content }}", tokenizer=tokenizer)
    engine.admit(Work("x", {"messages": TURNS[1:2]}, {"max_new_tokens": 1}, 0))

    first = tokenizer.bos_token_id
    assert engine._sequences["x"].tokens.count(first) == 1
    drive(engine)


def test_messages_for_a_model_without_a_template_are_the_callers_fault(
    engine: TextGeneration,
) -> None:
    error = refusal(engine, {"messages": TURNS})

    assert "no chat template" in error.detail
    assert PROBLEMS[error.code].status == 422


def test_a_template_that_refuses_is_the_callers_fault(tmp_path: Path) -> None:
    path = save_causal(tmp_path, **LLAMA)
    (path / "chat_template.jinja").write_text("{{ raise_exception('roles must alternate') }}")

    error = refusal(loaded(path), {"messages": [{"role": "user", "content": "hello"}]})

    assert "roles must alternate" in error.detail


@pytest.mark.parametrize("length", [5, LONG + 1])
def test_a_template_that_fails_says_nothing_of_the_engine_however_long_the_chat(
    tmp_path: Path, length: int
) -> None:
    engine = chatting(tmp_path, "{{ 1 // 0 }}")
    content = {"messages": [{"role": "user", "content": "x" * length}]}
    steps: list[Stepped] = []
    request = msgspec.json.encode({"content": content, "params": {}, "seed": 0})
    given: Iterator[list[Command]] = iter([[Submit("a", request, 60, "expired")]])

    def commands(_patience: float | None) -> list[Command]:
        return [Stop()] if any(step.outcomes for step in steps) else next(given, [])

    Loop(engine, commands, steps.append, continues=True).run()

    [end] = [end for step in steps for end in step.outcomes]
    assert (end.code, end.doubt) == ("poison_input", "")
