"""Reads texts as messages, cut into pieces of any size."""

from typing import Any

from shared.domain.parts import Message
from workers.engines.texts.messages.forms import CALLS, Tagged

SIZES = (1, 2, 5, 10_000)


def read(
    text: str, form: Tagged, tools: dict[str, dict[str, Any]], size: int = 3
) -> tuple[str | None, list[tuple[str, str]]]:
    """Content and calls, each a name and arguments as they are written."""
    calls = CALLS[form](tools, lambda number: f"call_{number}")
    message = Message()
    for at in range(0, len(text), size):
        message.add(calls.feed(text[at : at + size]))
    message.add(calls.end())
    made = message.to_json()
    found = [call["function"] for call in made.get("tool_calls", ())]
    return made["content"], [(call["name"], call["arguments"]) for call in found]
