import msgspec
import pytest

from shared.domain.parts import Content, Message, Part, Reasoning, ToolCall, merged, parts_of

PARTS: list[Part] = [
    Reasoning("h"),
    Reasoning("m"),
    Content("So"),
    ToolCall(0, '{"a":', "call_0", "look"),
    ToolCall(0, "1}"),
    ToolCall(1, "{}", "call_1", "now"),
    Content("."),
]
SUM = {
    "role": "assistant",
    "content": "So.",
    "reasoning_content": "hm",
    "tool_calls": [
        {"id": "call_0", "type": "function", "function": {"name": "look", "arguments": '{"a":1}'}},
        {"id": "call_1", "type": "function", "function": {"name": "now", "arguments": "{}"}},
    ],
}


def message(parts: list[Part]) -> dict:
    made = Message()
    made.add(parts)
    return made.to_json()


def test_parts_add_up_to_a_message_and_a_message_is_its_parts() -> None:
    assert message(PARTS) == message(merged(PARTS)) == message(parts_of(SUM)) == SUM


def test_neighbours_of_one_part_are_one() -> None:
    assert merged(PARTS) == [
        Reasoning("hm"),
        Content("So"),
        ToolCall(0, '{"a":1}', "call_0", "look"),
        ToolCall(1, "{}", "call_1", "now"),
        Content("."),
    ]


@pytest.mark.parametrize(
    ("parts", "content"), [([], ""), ([Content("a")], "a"), ([ToolCall(0, "{}", "i", "f")], None)]
)
def test_content_is_null_only_beside_calls(parts: list[Part], content: str | None) -> None:
    assert message(parts)["content"] == content


def test_a_part_is_told_by_its_type() -> None:
    told = msgspec.json.encode([Content("a"), ToolCall(0, "{", "i", "f"), ToolCall(0, "}")])

    assert msgspec.json.decode(told) == [
        {"type": "content", "text": "a"},
        {"type": "tool_call", "index": 0, "arguments": "{", "id": "i", "name": "f"},
        {"type": "tool_call", "index": 0, "arguments": "}"},
    ]
    assert msgspec.json.decode(told, type=list[Part])[0] == Content("a")
