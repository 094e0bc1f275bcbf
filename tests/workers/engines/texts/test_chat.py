"""A model's chat template is given what clients send, and says what transformers would have it say.

The templates are of the kinds of Qwen and Hermes, Llama, Mistral and Gemma, in own words.
"""

from pathlib import Path
from typing import Any

import pytest

from shared.domain.errors import InputRefused
from tests.tiny_models import byte_level_tokenizer
from workers.engines.texts.chat import ChatTemplate

FOLDER = Path(__file__).parent / "templates"


def template(name: str) -> str:
    return (FOLDER / f"{name}.jinja").read_text("utf-8")


HERMES, LLAMA_LIKE, MISTRAL, GEMMA = map(template, ("hermes", "llama", "mistral", "gemma"))
PARTS_ALONE, TEXT_ARGUMENTS = template("parts_alone"), template("text_arguments")
TEMPLATES = {"hermes": HERMES, "llama": LLAMA_LIKE, "mistral": MISTRAL, "gemma": GEMMA}

PLAIN = "{% for one in messages %}{{ one.role }}: {{ one.content }}\n{% endfor %}"
USER = {"role": "user", "content": " What is it? "}
TOOL = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "Of a city",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    },
}
CALL = {
    "id": "abcdefghi",
    "type": "function",
    "function": {"name": "weather", "arguments": '{"city": "Köln", "days": 2}'},
}
ANSWER = {"role": "tool", "tool_call_id": "abcdefghi", "name": "weather", "content": "rain"}


def tokenizer(template: Any) -> Any:
    made = byte_level_tokenizer()
    made.bos_token = "<s>"
    made.chat_template = template
    return made


def ours(template: str, messages: list[Any], **more: Any) -> str:
    return ChatTemplate(tokenizer(template)).render({"messages": messages, **more})


def theirs(template: str, messages: list[Any], **options: Any) -> str:
    options.setdefault("add_generation_prompt", True)
    text: str = tokenizer(template).apply_chat_template(messages, tokenize=False, **options)
    return text


@pytest.mark.parametrize("kind", TEMPLATES)
def test_a_plain_chat_is_what_transformers_makes_of_it(kind: str) -> None:
    chat = [USER, {"role": "assistant", "content": "It."}, {"role": "user", "content": "And?"}]
    assert ours(TEMPLATES[kind], chat) == theirs(TEMPLATES[kind], chat)


@pytest.mark.parametrize("kind", ["hermes", "llama", "mistral"])
def test_calls_and_their_answers_are_what_transformers_makes_of_them(kind: str) -> None:
    template = TEMPLATES[kind]
    sent = [USER, {"role": "assistant", "content": None, "tool_calls": [CALL]}, ANSWER]
    function = {"name": "weather", "arguments": {"city": "Köln", "days": 2}}
    known = [USER, {"role": "assistant", "tool_calls": [{**CALL, "function": function}]}, ANSWER]

    assert ours(template, sent) == theirs(template, known)
    assert ours(template, sent[:1], tools=[TOOL]) == theirs(template, known[:1], tools=[TOOL])
    # Clients send what they have got: an empty list, nulls, the number of a streamed call.
    told = [{**USER, "tool_calls": None}, {**sent[1], "tool_calls": [{**CALL, "index": 0}]}, ANSWER]
    said = {"role": "assistant", "content": "No.", "tool_calls": []}
    assert ours(template, [*told, said]) == theirs(
        template, [*known, {"role": "assistant", "content": "No."}]
    )


def test_content_in_parts_is_a_text_where_the_template_knows_no_parts() -> None:
    parts = [{"type": "text", "text": " What is"}, {"type": "input_text", "text": " it? "}]
    for template in (HERMES, LLAMA_LIKE, GEMMA):
        found = ours(template, [{"role": "user", "content": parts}])
        assert found == theirs(template, [USER])


def test_content_in_parts_is_the_templates_where_it_knows_them() -> None:
    parts = [{"type": "text", "text": " What"}, {"type": "text", "text": "is it "}]
    chat = [{"role": "user", "content": parts}, {"role": "assistant", "content": parts}]

    found = ours(MISTRAL, chat)

    assert found.startswith("<s>[INST] What;is it;[/INST]")
    assert found == theirs(MISTRAL, [chat[0], {"role": "assistant", "content": " Whatis it "}])


def test_a_template_that_takes_parts_alone_gets_parts() -> None:
    assert ours(PARTS_ALONE, [USER]) == "user: What is it? "


def test_arguments_are_text_for_a_template_that_wants_text() -> None:
    sent = {"role": "assistant", "content": None, "tool_calls": [CALL]}
    found = ours(TEXT_ARGUMENTS, [{"role": "user", "content": "x"}, sent])
    assert found == 'user: x|weather({"city": "Köln", "days": 2})'


def test_a_template_that_asks_if_content_is_null_is_told_so() -> None:
    """As DeepSeek's do. transformers leaves out what is null, and the call would vanish."""
    asks = """{% for m in messages %}{% if m.role == 'assistant' and m.content is none %}
{%- for c in m.tool_calls %}<call>{{ c.function.name }} {{ c.function.arguments | tojson }}{% endfor %}
{%- else %}{{ m.role }}: {{ m.content }};{% endif %}{% endfor %}"""
    call = {"role": "assistant", "content": None, "tool_calls": [CALL]}
    assert ours(asks, [USER, call, ANSWER]) == (
        'user:  What is it? ;<call>weather {"city": "Köln", "days": 2}tool: rain;'
    )


def test_a_call_that_the_template_leaves_out_is_refused() -> None:
    leaves_out = "{% for m in messages if not m.tool_calls %}{{ m.content }}{% endfor %}"
    with pytest.raises(InputRefused, match="leaves out calls"):
        ours(leaves_out, [USER, {"role": "assistant", "content": "", "tool_calls": [CALL]}])


def test_broken_arguments_of_an_earlier_answer_are_shown_as_they_are() -> None:
    broken = {**CALL, "function": {"name": "weather", "arguments": '{"city": '}}
    found = ours(LLAMA_LIKE, [USER, {"role": "assistant", "tool_calls": [broken]}])
    assert '"parameters": "{\\"city\\": "' in found


def test_a_developer_is_the_system_where_the_template_does_not_know_it() -> None:
    chat = [{"role": "developer", "content": "Be brief."}, USER]
    assert ours(HERMES, chat) == theirs(HERMES, [{**chat[0], "role": "system"}, USER])
    knows = HERMES + "{% if messages[0].role == 'developer' %}{% endif %}"
    assert ours(knows, chat) == theirs(knows, chat)


def test_words_that_a_template_says_are_not_what_it_knows() -> None:
    """Its own text may speak of developers and tools, without a place for either."""
    said = "You help developers. A developer may give you tools and documents."
    prose = f"{said}{{{{ '{said}' }}}}{{# tools developer #}}" + PLAIN
    chat = [{"role": "developer", "content": "Be brief."}, USER]

    assert ChatTemplate(tokenizer(prose)).shows == ("messages",)
    assert ours(prose, chat) == theirs(prose, [{**chat[0], "role": "system"}, USER])


def test_settings_of_the_template_reach_it() -> None:
    options = {"enable_thinking": False}
    found = ours(HERMES, [USER], chat_template_kwargs=options)
    assert found == theirs(HERMES, [USER], enable_thinking=False) != theirs(HERMES, [USER])


@pytest.mark.parametrize("kind", TEMPLATES)
@pytest.mark.parametrize("begun", ["It is", "It is "])
def test_a_last_message_is_left_open_as_transformers_does(kind: str, begun: str) -> None:
    chat = [USER, {"role": "assistant", "content": begun}]
    found = ours(TEMPLATES[kind], chat, continue_final_message=True)
    assert found == theirs(
        TEMPLATES[kind], chat, continue_final_message=True, add_generation_prompt=False
    )
    assert found.endswith(begun.rstrip() if kind in ("llama", "gemma") else begun)


@pytest.mark.parametrize(
    ("template", "messages", "words"),
    [
        (GEMMA, [{"role": "developer", "content": "x"}, USER], "System role not supported"),
        (MISTRAL, [USER, {"role": "system", "content": "x"}], "roles must alternate"),
        (
            MISTRAL,
            [USER, {"role": "assistant", "tool_calls": [{**CALL, "id": "short"}]}],
            "nine characters",
        ),
        (LLAMA_LIKE, [USER, {"role": "assistant", "tool_calls": [CALL, CALL]}], "one call"),
    ],
)
def test_what_a_template_refuses_is_told_in_its_words(
    template: str, messages: list[Any], words: str
) -> None:
    with pytest.raises(InputRefused, match=words) as refused:
        ours(template, messages)
    assert refused.value.code == "invalid_input"


@pytest.mark.parametrize(
    ("template", "shows"),
    [
        (HERMES, ("messages", "tools", "tool_calls")),
        (GEMMA, ("messages",)),
        ({"default": GEMMA, "rag": "{{ documents }}"}, ("messages", "documents")),
        (None, ()),
    ],
)
def test_what_a_template_can_show_is_told(template: Any, shows: tuple[str, ...]) -> None:
    assert ChatTemplate(tokenizer(template)).shows == shows
