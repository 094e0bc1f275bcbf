"""A conversation's items as the messages of a chat."""

from collections.abc import Iterable, Mapping
from typing import Any

from api.openai.responses.items import Item

Message = dict[str, Any]
SYSTEM = ("system", "developer")


def messages(instructions: str | None, items: Iterable[Item]) -> list[Message]:
    """The messages that say the same as these items, behind `instructions`.

    What an assistant thought, said and called, one after the other, is one message of it. All of a system's
    that stands first is one message too: templates take one, in front.
    """
    found: list[Message] = [{"role": "system", "content": instructions}] if instructions else []
    for item in items:
        if item["type"] == "function_call_output":
            answered = {"tool_call_id": item["call_id"], "content": item["output"]}
            found.append({"role": "tool", **answered})
        elif item["type"] == "message" and item["role"] != "assistant":
            _add_message(found, item)
        else:
            _add_to_assistant(found, item)
    return found


def _add_message(found: list[Message], item: Item) -> None:
    role, content = item["role"], _content(item)
    if role in SYSTEM:
        first = found[0] if len(found) == 1 and found[0]["role"] == "system" else None
        if first is not None:
            first["content"] = f"{_joined(first['content'])}\n\n{_joined(content)}"
            return
        role = "system"
    found.append({"role": role, "content": content})


def _add_to_assistant(found: list[Message], item: Item) -> None:
    last = found[-1] if found and found[-1]["role"] == "assistant" else None
    match item["type"]:
        case "reasoning":
            # Thoughts come before what is said and called.
            message: Message = {"role": "assistant", "content": ""}
            message["reasoning_content"] = _thoughts(item)
            found.append(message)
        case "message":
            if last is None or last["content"] or "tool_calls" in last:
                last = {"role": "assistant", "content": ""}
                found.append(last)
            last["content"] = _content(item)
        case _:
            if last is None:
                last = {"role": "assistant", "content": ""}
                found.append(last)
            function = {"name": item["name"], "arguments": item["arguments"]}
            call = {"id": item["call_id"], "type": "function", "function": function}
            last.setdefault("tool_calls", []).append(call)


def _content(item: Item) -> str | list[dict[str, str]]:
    """A message's text; several parts stay apart."""
    parts = [{"type": "text", "text": part["text"]} for part in item["content"]]
    return parts[0]["text"] if len(parts) == 1 else parts


def _joined(content: str | list[dict[str, str]]) -> str:
    return content if isinstance(content, str) else "".join(part["text"] for part in content)


def _thoughts(item: Mapping[str, Any]) -> str:
    """What was thought; its summary where only that is there."""
    return "".join(part["text"] for part in item["content"] or item["summary"])
