"""How a model answers chats: what a forced answer must be made of, and what reads an answer as a message."""

import logging
from collections.abc import Collection, Mapping
from collections.abc import Sequence as Items
from functools import cached_property
from hashlib import blake2b
from typing import Any

import msgspec

from shared.domain.errors import InputRefused
from shared.grammars.calls import CLOSE, MARK, OPEN, calls_grammar, forced
from shared.grammars.refusal import GrammarRefused
from workers.engines.base import Work
from workers.engines.loading.vocabulary import Vocabulary
from workers.engines.texts.messages.call_markup import GLM
from workers.engines.texts.messages.calls import ARGS, CALL_ID, PYTHON
from workers.engines.texts.messages.forms import Tagged, forced_form, form_of
from workers.engines.texts.messages.harmony import HARMONY, HarmonyReader
from workers.engines.texts.messages.reader import FormReader, MessageReader, PartReader
from workers.engines.texts.messages.sectioned_calls import (
    DEEPSEEK,
    DSML_SECTION,
    KIMI,
    MINIMAX_SECTION,
)
from workers.engines.texts.messages.template import NEAR, Template, TemplateReader
from workers.engines.texts.messages.thoughts import TAGS, Thoughts

LAST = 8
"""Tokens of a prompt in which the tag of thoughts may have been opened."""

_log = logging.getLogger(__name__)


class Replies:
    """How one model answers chats."""

    def __init__(self, tokenizer: Any, vocabulary: Vocabulary) -> None:
        source = getattr(tokenizer, "chat_template", None)
        self._form = form_of(source)
        self._tags = next((tags for tags in TAGS if tags[1] in str(source or "")), TAGS[0])
        self._vocabulary = vocabulary
        self._template = _template(getattr(tokenizer, "response_template", None))

    def grammar(self, work: Work) -> Mapping[str, Any] | None:
        """What the job's text must be made of. Raises `InputRefused`."""
        grammar: Mapping[str, Any] | None = work.params.get("grammar")
        if grammar or not isinstance(work.content, Mapping):
            return grammar
        try:
            return calls_grammar(work.content, forced_form(self._form))
        except GrammarRefused as refused:
            raise InputRefused(refused.detail, code=refused.code) from None

    def reader(self, work: Work, prompt: Items[int], choice: int) -> MessageReader | None:
        """Reads one text of a job as a message; None for a job that is no chat, or goes on with a message."""
        content = work.content
        if not isinstance(content, Mapping) or content.get("continue_final_message"):
            return None
        offered = content.get("tool_choice") != "none" and content.get("tools")
        tools: list[Mapping[str, Any]] = offered or []
        functions = [tool["function"] for tool in tools]
        schemas = {one["name"]: one.get("parameters") or {} for one in functions}
        ids = CallIds(work, prompt, choice)
        # A text that is held to a grammar thinks nothing first; a call that must be made has our form.
        held = bool(self.grammar(work))
        if self._template is not None and not forced(content):
            near = "" if held else self._vocabulary.spell(prompt[-NEAR:])
            reader = TemplateReader(self._template, near, tools, schemas, ids)
            marks = [name for name in self._specials if self._template.names(name)]
            return self._message_reader(reader, marks)
        # A call that must be made has our form, and a grammar leaves no room for headers.
        ours = forced(content) or (held and self._form == "harmony")
        form = forced_form(self._form) if ours else self._form
        if form == "harmony":
            near = self._vocabulary.spell(prompt[-NEAR:])
            return self._message_reader(HarmonyReader(schemas, ids, near), HARMONY)
        start, _ = self._tags
        thinking = not held and self._vocabulary.spell(prompt[-LAST:]).rstrip().endswith(start)
        marks = [*self._tags, *(_MARKS[form] if schemas else ())]
        thoughts = Thoughts(self._tags, thinking=thinking)
        return self._message_reader(FormReader(thoughts, form, schemas, ids), marks)

    def _message_reader(self, reader: PartReader, marks: Collection[str]) -> MessageReader:
        shown = [name for name in self._specials if name in marks]
        return MessageReader(reader, shown, [name for name in self._specials if name not in marks])

    @cached_property
    def _specials(self) -> list[str]:
        """Special tokens, written out; the longest first, for one may begin another."""
        names = {self._vocabulary.spell((token,)) for token in self._vocabulary.specials}
        return sorted(names, key=len, reverse=True)


_MARKS: Mapping[Tagged, tuple[str, ...]] = {
    "hermes": (OPEN, CLOSE, GLM.key, GLM.key_end, GLM.value, GLM.value_end),
    "llama": (PYTHON,),
    "mistral": (MARK, ARGS, CALL_ID),
    "deepseek": DEEPSEEK.words,
    "kimi": KIMI.words,
    "minimax": MINIMAX_SECTION.words,
    # Its tags are made of one special token and others that are none.
    "dsml": (*DSML_SECTION.words, "｜DSML｜"),
}
"""What encloses calls. Where one is a special token, a text does not show it, and it is read all the same."""


class CallIds:
    """The ids of one text's calls: the same for the same call, whichever attempt makes it, and whichever of
    the jobs that share one answer.
    """

    def __init__(self, work: Work, prompt: Items[int], choice: int) -> None:
        self._prompt = prompt
        # The seed of a greedy text is its job's own, and changes nothing.
        self._seed = work.seed if work.params.get("temperature") else 0
        self._choice = choice

    def __call__(self, number: int) -> str:
        return "call_" + blake2b(self._text + b"%d" % number, digest_size=12).hexdigest()

    @cached_property
    def _text(self) -> bytes:
        """What the ids are made of: most texts call nothing, and prompts may be long."""
        return msgspec.json.encode([list(self._prompt), self._seed, self._choice])


def _template(given: Any) -> Template | None:
    """A tokenizer's own response template; None where it has none that can be read."""
    if not isinstance(given, Mapping):
        return None
    try:
        return Template(given)
    except (ImportError, ValueError) as error:
        _log.warning("the tokenizer's response_template is not used: %s", error)
        return None
