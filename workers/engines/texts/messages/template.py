"""Reads a text as its tokenizer's response template says (`response_template` in tokenizer_config.json)."""

import json
from collections.abc import Callable, Collection, Mapping
from collections.abc import Sequence as Items
from typing import Any

from shared.domain.parts import Content, Part, Reasoning, ToolCall, merged

REASONING = ("reasoning_content", "reasoning", "thinking", "thoughts")
"""What templates call what was thought."""
CALLS = "tool_calls"
NEAR = 64
"""Tokens of a prompt in which its answer may have been begun."""

Parse = Callable[[str], Any]
"""A transformers `ResponseParser` behind a prompt."""


class Template:
    """A response template. Raises `ValueError`, in transformers' words, for one that it cannot read.

    `anchored`: whether a prompt shows where its answer begins.
    """

    def __init__(self, given: Mapping[str, Any]) -> None:
        # An older transformers has none of this, and no tokenizer with a template either.
        from transformers.utils.chat_parsing import response_parser, response_templates

        self._parser = response_parser.ResponseParser
        # A text may be cut anywhere: no part of it is required.
        fields = {
            name: {**field, "optional": True} if isinstance(field, dict) else field
            for name, field in (given.get("fields") or {}).items()
        }
        self._spec = response_templates.load_response_template({**given, "fields": fields})
        self._source = json.dumps(given, ensure_ascii=False).replace("\\", "")
        self.stripped = {
            name
            for name, field in self._spec.fields.items()
            if field.content_args.get("strip", True)
        }

    def names(self, text: str) -> bool:
        """Whether a special token of this text is one that the template looks for."""
        return json.dumps(text, ensure_ascii=False)[1:-1].replace("\\", "") in self._source

    def parser(self, prompt: str, tools: Items[Mapping[str, Any]]) -> Any:
        """Reads what follows the end of a prompt."""
        anchored = self._spec.start_anchor_re.search(prompt) is not None
        return self._parser(self._spec, prefix=prompt if anchored else "", tools=list(tools))


class TemplateReader:
    """The parts of one text. `names`: the tools that may be called.

    A call is told once it is complete, for only then its form says what it is; one that is cut off or broken,
    or of another tool, is content. It is fed character by character: what transformers' parser has told
    then does not depend on how the text was cut into pieces.
    """

    def __init__(
        self,
        template: Template,
        prompt: str,
        tools: Items[Mapping[str, Any]],
        names: Collection[str],
        call_id: Callable[[int], str],
    ) -> None:
        self._template = template
        self._tools = tools
        self._names = names
        self._id = call_id
        self._count = 0
        self._parser = template.parser(prompt, tools)
        self._body = ""
        """What has come of the call that is being written."""
        self._blanks = dict.fromkeys((*REASONING, "content"), "")
        self._said: set[str] = set()

    def feed(self, text: str) -> list[Part]:
        told: list[Part] = []
        for char in text:
            try:
                events = self._parser.feed(char)
            except Exception:  # noqa: BLE001 - whatever it makes of a call that is none
                told += self._broken()
                self._parser = self._template.parser("", self._tools)
            else:
                told += self._parts(events)
        return merged(told)

    def end(self) -> list[Part]:
        try:
            _, events = self._parser.finalize()
        except Exception:  # noqa: BLE001 - as above
            return self._broken()
        return merged(self._parts(events))

    def _parts(self, events: list[dict[str, Any]]) -> list[Part]:
        told: list[Part] = []
        for event in events:
            field = event["field"]
            if field == CALLS:
                told += self._of_call(event)
            elif event["type"] == "region_chunk" and (text := self._trimmed(field, event["text"])):
                told.append(Content(text) if field == "content" else Reasoning(text))
        return told

    def _of_call(self, event: dict[str, Any]) -> list[Part]:
        if event["type"] == "region_chunk":
            self._body += event["text"]
            return []
        if event["type"] == "region_open":
            self._body = ""
            return []
        value = event["value"]
        found = [_call(one) for one in (value if isinstance(value, list) else [value])]
        calls = [call for call in found if call is not None and call[0] in self._names]
        if not calls or len(calls) < len(found):
            return self._broken()
        self._body = ""
        told: list[Part] = []
        for name, arguments in calls:
            told.append(ToolCall(self._count, arguments, self._id(self._count), name))
            self._count += 1
        return told

    def _broken(self) -> list[Part]:
        body, self._body = self._body, ""
        text = self._trimmed("content", body)
        return [Content(text)] if text else []

    def _trimmed(self, field: str, text: str) -> str:
        """What can be told of a field: no blanks at its beginning, nor at its end."""
        if field not in self._blanks or field not in self._template.stripped:
            return text if field in self._blanks else ""
        text = self._blanks[field] + text
        if field not in self._said:
            text = text.lstrip()
        told = text.rstrip()
        self._blanks[field] = text[len(told) :]
        if told:
            self._said.add(field)
        return told


def _call(value: Any) -> tuple[str, str] | None:
    """The name and arguments of what a template takes for a call."""
    function = value.get("function", value) if isinstance(value, dict) else None
    if not isinstance(function, dict):
        return None
    name, arguments = function.get("name"), function.get("arguments", {})
    if isinstance(arguments, dict):
        arguments = json.dumps(arguments, ensure_ascii=False, separators=(",", ":"))
    return (name, arguments) if isinstance(name, str) and isinstance(arguments, str) else None
