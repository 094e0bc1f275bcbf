"""What no text can have that fits a model: known without its tokenizer, so that nobody tokenises in vain.

A worker works the bounds out from its tokenizer (`workers.engines.loading.tokenizer_bounds`) and tells them
with its report; the API and the engine host refuse by them before a text is stored, rendered or tokenised.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from typing import Any

import msgspec

from shared.domain.errors import InputRefused

_WORD = re.compile(r"[A-Za-z0-9][^ ]*")
"""The rest of a stretch without spaces, from its first letter or digit on."""


class PromptBounds(msgspec.Struct, frozen=True, omit_defaults=True):
    """A text with more `bytes` of UTF-8, or more `words`, has more than `tokens` tokens for certain.

    None: nothing is certain. A word is a stretch between spaces with an ASCII letter or digit in it.
    `roles`: whose messages in a chat come whole into the text that is tokenised; none where it has no chats.
    """

    tokens: int
    bytes: int | None = None
    words: int | None = None
    roles: tuple[str, ...] = ()

    def check(self, texts: Sequence[str]) -> None:
        """Raise `InputRefused` for texts that cannot fit together."""
        if self.bytes is not None and (size := _size(texts, self.bytes)) > self.bytes:
            self._refuse(size, "bytes", self.bytes)
        if self.words is not None and _words(texts, self.words + 1) > self.words:
            self._refuse(self.words, "words", self.words, more=True)

    def check_content(self, content: Any) -> None:
        """Of a job: a text, its token ids, a list of texts that must fit one by one, or a chat.

        Raises `InputRefused`.
        """
        if isinstance(content, str):
            self.check([content])
        elif isinstance(content, list) and content and isinstance(content[0], int):
            if len(content) > self.tokens:
                raise InputRefused(
                    f"The prompt has {len(content)} tokens; this model takes {self.tokens}.",
                    code="prompt_too_long",
                )
        elif isinstance(content, list):
            for text in content:
                if isinstance(text, str):
                    self.check([text])
        elif isinstance(content, Mapping) and self.roles:
            self.check(list(self._spoken(content.get("messages"))))

    def _spoken(self, messages: Any) -> Iterable[str]:
        """What comes whole into a chat's text, but for spaces around it: templates strip them."""
        for message in messages if isinstance(messages, list) else ():
            if isinstance(message, Mapping) and message.get("role") in self.roles:
                yield text_of(message.get("content")).strip()

    def _refuse(self, found: int, what: str, most: int, *, more: bool = False) -> None:
        has = f"more than {found}" if more else str(found)
        raise InputRefused(
            f"The prompt has {has} {what}; one of the {self.tokens} tokens that this model takes has"
            f" at most {most}.",
            code="prompt_too_long",
        )


def text_of(content: Any) -> str:
    """The text of a message's content: itself, or that of its parts; none for anything else."""
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else ()
    texts = [part.get("text") for part in parts if isinstance(part, Mapping)]
    return "".join(text for text in texts if isinstance(text, str))


def bounds_of(report: Mapping[str, Any]) -> PromptBounds | None:
    """What a worker's report says, None where it says nothing that can be read."""
    engine = report.get("engine")
    told = engine.get("prompt_bounds") if isinstance(engine, Mapping) else None
    try:
        return msgspec.convert(told, PromptBounds) if told else None
    except msgspec.ValidationError:
        return None


def _size(texts: Sequence[str], most: int) -> int:
    """Bytes of UTF-8; no more than characters are counted where they are too many already."""
    characters = sum(map(len, texts))
    if characters > most or 4 * characters <= most:
        return characters
    return sum(len(text.encode("utf-8", "replace")) for text in texts)


def _words(texts: Sequence[str], most: int) -> int:
    """How many words, at most `most`: a long text is not read to its end."""
    found = (match for text in texts for match in _WORD.finditer(text))
    return sum(1 for _ in islice(found, most))
