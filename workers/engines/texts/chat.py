"""Puts a chat through a model's own chat template, as transformers does, for what clients really send.

Clients of OpenAI's API write what templates were not written for: content in parts, a role `developer`, the
arguments of a call as a string, a call without content. Each is brought into a form that the template knows,
and what no form of it does is refused with the template's own words.
"""

import json
import re
from collections.abc import Iterator, Mapping
from itertools import product
from typing import Any

from jinja2 import Environment
from jinja2.exceptions import TemplateError
from transformers.utils.chat_template_utils import render_jinja_template

from shared.domain.errors import InputRefused
from shared.domain.requests.accepted import CHAT_PARTS
from shared.domain.requests.prompt_bounds import text_of

FAULTS = (TemplateError, AttributeError, LookupError, TypeError, ValueError)
"""What a template raises that refuses a chat, or was not written for it. Another error is one of its own."""
LONGEST_REASON = 500
"""Characters of what a template says that a refusal repeats."""
_SHOWN = ("role", "content", "name", "tool_calls", "tool_call_id", "reasoning_content")
_LEFT_OUT = object()
_PROBE = "what is this"
_WRITTEN_OUT = re.compile(r"""["']type["']: ?["']text["']""")
"""Parts that a template has shown as a list, because it knows texts alone."""


class ChatTemplate:
    """The chat template of a transformers tokenizer. `shows` are those of `CHAT_PARTS` that it can show.

    Whether it takes content in parts is found out by trying, by role; whether it knows the role `developer`,
    tools or documents by whether it names them.
    """

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        given = getattr(tokenizer, "chat_template", None) or ""
        sources = [str(one) for one in (given.values() if isinstance(given, dict) else [given])]
        named = {name for source in sources for name in _named(source)}
        self.shows: tuple[str, ...] = ()
        self._knows_developer = "developer" in named
        self._in_parts, self._parts_alone = frozenset[str](), False
        if any(sources):
            self.shows = ("messages", *(part for part in CHAT_PARTS[1:] if part in named))
            self._in_parts, self._parts_alone = self._probe()

    def render(self, chat: Mapping[str, Any]) -> str:
        """The text of a chat, as the door has let it in. Raises `InputRefused` in the template's words."""
        if not self.shows:
            raise InputRefused("This model has no chat template; give it a prompt.")
        goes_on = bool(chat.get("continue_final_message"))
        called = _called(chat["messages"])
        refusal: Exception | None = None
        for messages in self._forms(chat["messages"], calls=bool(called)):
            try:
                text = self._apply(
                    messages,
                    tools=(chat.get("tool_choice") != "none" and chat.get("tools")) or None,
                    documents=chat.get("documents") or None,
                    add_generation_prompt=not goes_on,
                    continue_final_message=goes_on,
                    **(chat.get("chat_template_kwargs") or {}),
                )
            except FAULTS as error:
                # What it says of the first form is what transformers would say.
                refusal = refusal or error
            else:
                if all(name in text for name in called):
                    return text
        if refusal is None:
            raise InputRefused(
                "The chat template leaves out calls of tools that these messages make."
            )
        said = str(refusal).partition("\n")[0][:LONGEST_REASON]
        raise InputRefused(f"The chat template refuses these messages: {said}")

    def _apply(self, messages: list[dict[str, Any]], tools: Any = None, **options: Any) -> str:
        tokenizer = self._tokenizer
        if not any(value is None for message in messages for value in message.values()):
            text: str = tokenizer.apply_chat_template(
                messages, tools=tools, tokenize=False, **options
            )
            return text
        # `apply_chat_template` would leave out what is null.
        [text], _ = render_jinja_template(
            conversations=[messages],
            tools=tools,
            chat_template=tokenizer.get_chat_template(None, tools),
            **{**tokenizer.special_tokens_map, **options},
        )
        return text

    def _forms(self, messages: list[Any], *, calls: bool) -> Iterator[list[dict[str, Any]]]:
        """The messages in each form that a template may want, the one of transformers' documentation first.

        A call's arguments are an object there, some templates want the string. Where a call has no content
        it is left out; some templates want an empty one, and some ask if it is null.
        """
        forms = product((False, True), (_LEFT_OUT, "", None)) if calls else [(False, _LEFT_OUT)]
        for as_text, empty in forms:
            yield [self._message(m, as_text=as_text, empty=empty) for m in messages]

    def _message(self, given: Mapping[str, Any], *, as_text: bool, empty: Any) -> dict[str, Any]:
        message = {name: given[name] for name in _SHOWN if given.get(name) not in (None, [])}
        if message.get("role") == "developer" and not self._knows_developer:
            message["role"] = "system"
        if "content" in message:
            message["content"] = self._content(message["role"], message["content"])
        elif empty is not _LEFT_OUT:
            message["content"] = empty
        if "tool_calls" in message:
            message["tool_calls"] = [_call(call, as_text=as_text) for call in message["tool_calls"]]
        return message

    def _content(self, role: str, content: Any) -> Any:
        if isinstance(content, list) and (self._parts_alone or role in self._in_parts):
            return [{"type": "text", "text": part["text"]} for part in content]
        text = text_of(content)
        return [{"type": "text", "text": text}] if self._parts_alone else text

    def _probe(self) -> tuple[frozenset[str], bool]:
        """Whose content may come in parts, and whether it must."""
        in_parts: set[str] = set()
        alone = False
        for role in ("user", "assistant", "system"):
            plain, parts = (self._try(role, shown) for shown in (_PROBE, _parts(_PROBE)))
            reads = parts is not None and _PROBE in parts and not _WRITTEN_OUT.search(parts)
            if reads:
                in_parts.add(role)
            if role == "user":
                alone = reads and not (plain and _PROBE in plain)
        return frozenset(in_parts), alone

    def _try(self, role: str, content: Any) -> str | None:
        """A short chat in which this role says that; None where the template refuses it."""
        turns = [{"role": "user", "content": _parts("a") if isinstance(content, list) else "a"}]
        said = {"role": role, "content": content}
        chat = {"user": [said], "assistant": [*turns, said], "system": [said, *turns]}[role]
        try:
            return self._apply(chat, add_generation_prompt=False)
        except Exception:  # noqa: BLE001 - a template is a program: it may refuse this one
            return None


def _named(source: str) -> set[str]:
    """The names and strings in a template's code, not words of the text that it writes.

    None of a template that cannot be cut into tokens; why, it says itself when a chat is put through it.
    """
    try:
        tokens = list(Environment().lex(source))  # noqa: S701 - nothing is rendered with it
    except TemplateError:
        return set()
    return {value.strip("\"'") for _, kind, value in tokens if kind in ("name", "string")}


def _called(messages: list[Any]) -> set[str]:
    """The names of all functions that the messages call."""
    calls = [m["tool_calls"] for m in messages if isinstance(m, Mapping) and m.get("tool_calls")]
    return {str(call["function"]["name"]) for made in calls for call in made}


def _parts(text: str) -> list[dict[str, str]]:
    return [{"type": "text", "text": text}]


def _call(call: Mapping[str, Any], *, as_text: bool) -> dict[str, Any]:
    """A call with its arguments as an object, where they are one, or as a string."""
    function = dict(call["function"])
    arguments = function.get("arguments")
    if isinstance(arguments, str):
        try:
            read = json.loads(arguments or "{}")
        except ValueError:
            read = arguments
        arguments = read if isinstance(read, dict) else arguments
    arguments = {} if arguments is None else arguments
    if as_text and not isinstance(arguments, str):
        arguments = json.dumps(arguments, ensure_ascii=False)
    function["arguments"] = arguments
    kept = {name: value for name, value in call.items() if name != "index" and value is not None}
    return {"type": "function", **kept, "function": function}
