import pytest

from shared.domain.parts import Message
from tests.workers.engines.texts.messages.reading import SIZES
from workers.engines.texts.messages.harmony import HarmonyReader

PROMPT = "…<|end|><|start|>assistant"
TOOLS = {"weather": {}, "now": {}}
ARGUMENTS = '{"city": "Oslo", "days": [2, "}"]}'
THOUGHT = "<|channel|>analysis<|message|>Hm.<|end|>"
FINAL = "<|channel|>final<|message|>"
CALL = f"<|channel|>commentary to=functions.weather <|constrain|>json<|message|>{ARGUMENTS}<|call|>"
NEXT = "<|start|>assistant"
WEATHER = ("weather", ARGUMENTS)
Read = tuple[str | None, str | None, list[tuple[str, str]]]


def read(text: str, size: int, prompt: str = PROMPT) -> Read:
    """Reasoning, content and calls."""
    reader = HarmonyReader(TOOLS, lambda number: f"call_{number}", prompt)
    message = Message()
    for at in range(0, len(text), size):
        message.add(reader.feed(text[at : at + size]))
    message.add(reader.end())
    made = message.to_json()
    found = [call["function"] for call in made.get("tool_calls", ())]
    calls = [(call["name"], call["arguments"]) for call in found]
    return made.get("reasoning_content"), made["content"], calls


@pytest.mark.parametrize(
    ("text", "reasoning", "content", "calls"),
    [
        (f"{THOUGHT}{NEXT}{FINAL}Yes, <b> <|.<|return|>", "Hm.", "Yes, <b> <|.", []),
        (f"{THOUGHT}{NEXT}{CALL}", "Hm.", None, [WEATHER]),
        (f"{THOUGHT}\n{NEXT}{THOUGHT}{NEXT}{FINAL}So", "Hm.\nHm.", "So", []),
        # The recipient may stand with the role, in front of the channel.
        (
            f" to=functions.now<|channel|>commentary json<|message|>{{}}<|call|>{NEXT}{CALL}",
            *(None, None, [("now", "{}"), WEATHER]),
        ),
        # What is said before a call, and what is said after it.
        (
            f"<|channel|>commentary<|message|>Let me look.<|end|>{NEXT}{CALL}{NEXT}{FINAL}So.",
            *(None, "Let me look.\nSo.", [WEATHER]),
        ),
        # A message whose end is missing, an empty one, and one without a channel.
        (f"<|channel|>analysis<|message|>Hm.{NEXT}{FINAL}So", "Hm.", "So", []),
        (f"{FINAL}<|end|>{NEXT}<|message|>So", None, "So", []),
        # Texts without any header are said.
        *((text, None, text, []) for text in ("Yes.", "to=5", "<b>", "x<|", "to=" + 300 * "x")),
        # Cut off within a header, nothing more is said; within a call, it stays one.
        *((text, None, "", []) for text in ("<|chan", "<|channel|>ana", "\n")),
        (f"{THOUGHT}{NEXT}<|channel|>fi", "Hm.", "", []),
        (CALL[: CALL.index("slo")], None, None, [("weather", '{"city": "O')]),
        # What is no call of an offered tool is content.
        (CALL.replace("weather", "other"), None, ARGUMENTS, []),
        (CALL.replace("functions.weather", "python"), None, ARGUMENTS, []),
        (CALL.replace(ARGUMENTS, "Oslo"), None, "Oslo", []),
        (CALL.replace(ARGUMENTS, " "), None, " ", []),
        (CALL.replace(ARGUMENTS, '{"a" b'), None, "b", [("weather", '{"a" ')]),
    ],
)
def test_a_text_is_read_however_it_is_cut(
    text: str, reasoning: str | None, content: str | None, calls: list[tuple[str, str]]
) -> None:
    assert [read(text, size) for size in SIZES] == [(reasoning, content, calls)] * len(SIZES)


@pytest.mark.parametrize(
    ("header", "read_as"),
    [
        ("<|channel|>analysis<|message|>", ("Hm.", "", [])),
        ("<|channel|>final<|message|>", (None, "Hm.", [])),
        ("", (None, "Hm.", [])),
    ],
)
def test_a_header_may_stand_in_the_prompt(header: str, read_as: Read) -> None:
    assert {size: read("Hm.", size, PROMPT + header) for size in SIZES} == dict.fromkeys(
        SIZES, read_as
    )
    assert read(f"analysis<|message|>Hm.<|end|>{NEXT}{FINAL}So", 1, f"{PROMPT}<|channel|>") == (
        *("Hm.", "So", []),
    )
