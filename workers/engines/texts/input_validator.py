"""Checks a job before it joins the batch, and turns it into the sequences of its texts."""

from collections.abc import Collection, Mapping
from functools import lru_cache
from typing import Any

import msgspec

from shared.domain.errors import InputRefused
from shared.domain.events import Prefix
from shared.domain.models.catalog import Limits
from shared.domain.requests.accepted import Accepted
from shared.domain.requests.prompt_bounds import text_of
from shared.domain.requests.text_generation_params import MAX_CHOICES
from workers.engines.base import Work
from workers.engines.batching.reader import LONG
from workers.engines.loading.tokenizer_bounds import counting, prompt_bounds
from workers.engines.texts.bad_words import BadWords
from workers.engines.texts.chat import ChatTemplate
from workers.engines.texts.choices import seed_of
from workers.engines.texts.defaults import NONE, Defaults
from workers.engines.texts.detokenizer import Detokenizer
from workers.engines.texts.sampling import Sampling
from workers.engines.texts.sequence import Sequence

BAD_WORDS_KEPT = 256
"""Lists of bad words that are kept as tokens: clients send the same ones again."""


class InputValidator:
    """Knows what the model can take. `context` is in tokens, None when the model has no bound; `ends` are the
    tokens that end any text of it.
    """

    def __init__(
        self,
        tokenizer: Any,
        detokenizer: Detokenizer,
        limits: Limits,
        vocabulary: int,
        context: int | None,
        defaults: Defaults = NONE,
        ends: frozenset[int] = frozenset(),
    ) -> None:
        self._tokenizer = tokenizer
        self._detokenizer = detokenizer
        self._limits = limits
        self._context = context
        self._defaults = defaults
        self._ends = ends
        longest = min(
            limits.max_prompt_tokens, context - 1 if context else limits.max_prompt_tokens
        )
        self.bounds = prompt_bounds(tokenizer, longest, chats=True)
        self._template = ChatTemplate(tokenizer)
        self.accepted = Accepted(vocabulary, self._template.shows)
        self._encode = counting(tokenizer)
        self._bad_words = lru_cache(BAD_WORDS_KEPT)(self._as_bad_words)

    def read(self, work: Work) -> list[int]:
        """The prompt's tokens. Touches nothing but the tokenizer, so any thread may call it.

        Raises `InputRefused`.
        """
        content = work.content
        if length_of(content) > LONG or isinstance(content, list):
            self.bounds.check_content(content)
        if isinstance(content, str):
            ids = self._tokens(content, special=True)
        elif isinstance(content, list):
            ids = _ids(content)
        elif isinstance(content, Mapping) and isinstance(content.get("messages"), list):
            self.accepted.check(content, {})
            text = self._template.render(content)
            if len(text) > LONG:
                self.bounds.check([text])
            ids = self._tokens(text, special=False)
        else:
            raise InputRefused('The prompt must be a string, token ids or {"messages": [...]}.')
        if not ids and self._tokenizer.bos_token_id is not None:
            ids = [self._tokenizer.bos_token_id]
        if not ids:
            raise InputRefused("The prompt is empty.")
        return ids

    def sequences(self, work: Work, prompt: list[int]) -> list[Sequence]:
        """One for each text of a prompt that was read; one has `ended` where an earlier attempt has finished
        it. Raises `InputRefused`.
        """
        params = work.params
        count = int(params.get("n") or 1)
        if not 1 <= count <= MAX_CHOICES:
            raise InputRefused(f"n must be from 1 to {MAX_CHOICES}, got {count}.")
        self.accepted.check_ids(prompt, "The prompt")
        self.accepted.check("", params)
        asked = params.get("max_new_tokens")
        most = self._room(len(prompt), None if asked is None else int(asked))
        least = int(params.get("min_tokens") or 0)
        if least > most:
            raise InputRefused(f"min_tokens is {least}, and there is room for {most} tokens.")
        said = [work.prefix, *work.further]
        said += [Prefix()] * (count - len(said))
        found = [
            self._sequence(work, prompt, most, number, begun)
            for number, begun in enumerate(said[:count])
        ]
        if count > 1:
            for sequence in found:
                sequence.siblings = found
        return found

    def _sequence(
        self, work: Work, prompt: list[int], most: int, choice: int, begun: Prefix
    ) -> Sequence:
        """One text, as far as earlier attempts have brought it."""
        params = work.params
        self.accepted.check_ids(begun.token_ids, "The text")
        if begun.text and not begun.token_ids:
            raise InputRefused("A text can only be continued from its tokens.")
        stops = tuple(dict.fromkeys((*(params.get("stop") or ()), *self._defaults.stops)))
        own = frozenset(params.get("stop_token_ids") or ())
        alone = isinstance(work.content, Mapping) and not work.content.get("continue_final_message")
        begin = self._detokenizer.begin(
            () if alone else prompt, specials=not params.get("skip_special_tokens", True)
        )
        least = int(params.get("min_tokens") or 0)
        heard = self._detokenizer.resume(begin, begun.token_ids, begun.text, stops, least)
        words = params.get("bad_words")
        sequence = Sequence(
            id=work.id if choice == 0 else f"{work.id}#{choice}",
            tokens=[*prompt, *begun.token_ids],
            prompt_length=len(prompt),
            max_new_tokens=most,
            sampling=Sampling.of(
                params,
                seed_of(work.seed, choice),
                self._defaults,
                bad_words=self._bad_words(tuple(words)) if words else None,
                ends=tuple(sorted(own | self._ends)) if least else (),
            ),
            stops=stops,
            ends=own if params.get("ignore_eos") else own | self._ends,
            spoken=heard.spoken,
            text=[begun.text] if begun.text else [],
            alone=alone,
            salt=work.salt,
            speculates=bool(params.get("speculation", True)),
            adapter=work.adapter,
            ignores_eos=bool(params.get("ignore_eos")),
            job=work.id,
            choice=choice,
        )
        if heard.stopped:
            sequence.ended = "stop"
        elif sequence.generated >= most:
            sequence.ended = "length"
        return sequence

    def _as_bad_words(self, words: tuple[str, ...]) -> BadWords | None:
        anchor = self._detokenizer.vocabulary.anchor
        return BadWords.of(
            words,
            lambda text: self._tokens(text, special=False),
            self._detokenizer.vocabulary.decode(anchor) if anchor else "",
        )

    def shared_beginnings(self, texts: Collection[str]) -> list[list[int]]:
        """The tokens with which a prompt that begins with such a text begins, and a chat whose system
        message is one: as many as do not depend on what follows.
        """
        found: list[list[int]] = []
        for text in texts:
            found.append(
                _common([self._tokens(text + more, special=True) for more in ("", " a", "\n")])
            )
            chats: list[list[int]] = []
            for more in ("a", "1 b"):
                turns = [{"role": "system", "content": text}, {"role": "user", "content": more}]
                try:
                    chat = self._template.render({"messages": turns})
                    chats.append(self._tokens(chat, special=False))
                except InputRefused:
                    break
            found.append(_common(chats))
        return found

    def _tokens(self, text: str, *, special: bool) -> list[int]:
        """Raises `InputRefused` for more of them than a prompt may have, before they are listed."""
        if self._encode is not None and len(text) > LONG:
            encoded = self._encode(text, special)
            self._check_length(len(encoded))
            return list(encoded.ids)
        ids: list[int] = self._tokenizer(text, add_special_tokens=special, verbose=False)[
            "input_ids"
        ]
        return ids

    def _check_length(self, prompt: int) -> None:
        if prompt > self._limits.max_prompt_tokens:
            raise InputRefused(
                f"The prompt has {prompt} tokens; this model takes {self._limits.max_prompt_tokens}.",
                code="prompt_too_long",
            )
        if self._context is not None and prompt >= self._context:
            raise InputRefused(
                f"The prompt has {prompt} tokens, which leaves no room for a text in the model's"
                f" context of {self._context}.",
                code="prompt_too_long",
            )

    def _room(self, prompt: int, asked: int | None) -> int:
        """How many new tokens the text may have: as many as were `asked` for, else what there is room for.

        Raises `InputRefused`.
        """
        self._check_length(prompt)
        most = self._limits.max_new_tokens
        left = most if self._context is None else self._context - prompt
        if asked is None:
            return min(most, left)
        if not 1 <= asked <= most:
            raise InputRefused(f"max_new_tokens must be from 1 to {most}, got {asked}.")
        if asked > left:
            raise InputRefused(
                f"The prompt's {prompt} tokens and max_new_tokens {asked} together exceed"
                f" the model's context of {self._context}."
            )
        return asked


def length_of(content: Any) -> int:
    """Characters of a prompt, or of all that a chat holds; how many token ids."""
    if isinstance(content, str | list):
        return len(content)
    if not isinstance(content, Mapping):
        return 0
    messages = content.get("messages")
    texts = [m.get("content") for m in messages or () if isinstance(m, Mapping)]
    more = [content[name] for name in ("tools", "documents") if content.get(name)]
    more += [
        m["tool_calls"] for m in messages or () if isinstance(m, Mapping) and m.get("tool_calls")
    ]
    return sum(len(text_of(text)) for text in texts) + (
        len(msgspec.json.encode(more)) if more else 0
    )


def _ids(content: list[Any]) -> list[int]:
    """A prompt that came as token ids. 1.0 is an integer to JSON Schema, so it is one here."""
    if not all(type(one) is int or (type(one) is float and one.is_integer()) for one in content):
        raise InputRefused("A prompt of token ids must be whole numbers.")
    return [int(one) for one in content]


def _common(texts: list[list[int]]) -> list[int]:
    """What all of them begin with."""
    if not texts:
        return []
    shortest, longest = min(texts), max(texts)
    same = next((n for n, t in enumerate(shortest) if t != longest[n]), len(shortest))
    return shortest[:same]
