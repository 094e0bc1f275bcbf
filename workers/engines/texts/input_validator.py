"""Checks a job before it joins the batch, and turns it into a sequence."""

from collections.abc import Collection, Mapping
from typing import Any

from jinja2.exceptions import TemplateError

from shared.domain.catalog import Limits
from shared.domain.errors import InputRefused
from workers.engines.base import Work
from workers.engines.batching.reader import LONG
from workers.engines.loading.tokenizer_bounds import counting, prompt_bounds
from workers.engines.texts.defaults import NONE, Defaults
from workers.engines.texts.detokenizer import Detokenizer
from workers.engines.texts.sampling import Sampling
from workers.engines.texts.sequence import Sequence


class InputValidator:
    """Knows what the model can take. `context` is in tokens, None when the model has no bound."""

    def __init__(
        self,
        tokenizer: Any,
        detokenizer: Detokenizer,
        limits: Limits,
        vocabulary: int,
        context: int | None,
        defaults: Defaults = NONE,
    ) -> None:
        self._tokenizer = tokenizer
        self._detokenizer = detokenizer
        self._limits = limits
        self._vocabulary = vocabulary
        self._context = context
        self._defaults = defaults
        longest = min(
            limits.max_prompt_tokens, context - 1 if context else limits.max_prompt_tokens
        )
        self.bounds = prompt_bounds(tokenizer, longest, chats=True)
        self._encode = counting(tokenizer)

    def read(self, work: Work) -> list[int]:
        """The prompt's tokens. Touches nothing but the tokenizer, so any thread may call it.

        Raises `InputRefused`.
        """
        content = work.content
        if length_of(content) > LONG:
            self.bounds.check_content(content)
        if isinstance(content, str):
            ids = self._tokens(content, special=True)
        elif isinstance(content, Mapping) and isinstance(content.get("messages"), list):
            text = self._chat(content["messages"])
            if len(text) > LONG:
                self.bounds.check([text])
            ids = self._tokens(text, special=False)
        else:
            raise InputRefused('The prompt must be a string or {"messages": [...]}.')
        if not ids and self._tokenizer.bos_token_id is not None:
            ids = [self._tokenizer.bos_token_id]
        if not ids:
            raise InputRefused("The prompt is empty.")
        return ids

    def sequence(self, work: Work, prompt: list[int]) -> Sequence:
        """The sequence of a prompt that was read; it has `ended` where an earlier attempt has finished it.

        Raises `InputRefused`.
        """
        params = work.params
        asked = params.get("max_new_tokens")
        max_new_tokens = self._room(len(prompt), None if asked is None else int(asked))
        ends = frozenset(params.get("stop_token_ids") or ())
        self._check_vocabulary([*prompt, *work.token_ids], "The input")
        self._check_vocabulary(ends, "stop_token_ids")
        if work.text and not work.token_ids:
            raise InputRefused("A text can only be continued from its tokens.")
        stops = tuple(dict.fromkeys((*(params.get("stop") or ()), *self._defaults.stops)))
        alone = not isinstance(work.content, str)
        begun = self._detokenizer.begin(
            () if alone else prompt, specials=not params.get("skip_special_tokens", True)
        )
        heard = self._detokenizer.resume(begun, work.token_ids, work.text, stops)
        sequence = Sequence(
            id=work.id,
            tokens=[*prompt, *work.token_ids],
            prompt_length=len(prompt),
            max_new_tokens=max_new_tokens,
            sampling=Sampling.of(params, work.seed, self._defaults),
            stops=stops,
            ends=ends,
            spoken=heard.spoken,
            text=[work.text] if work.text else [],
            alone=alone,
            salt=work.salt,
            adapter=work.adapter,
        )
        if heard.stopped:
            sequence.ended = "stop"
        elif sequence.generated >= max_new_tokens:
            sequence.ended = "length"
        return sequence

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
                    chats.append(self._tokens(self._chat(turns), special=False))
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

    def _chat(self, messages: list[Any]) -> str:
        if not getattr(self._tokenizer, "chat_template", None):
            raise InputRefused("This model has no chat template; give it a prompt.")
        try:
            text: str = self._tokenizer.apply_chat_template(
                messages, tokenize=False, add_generation_prompt=True
            )
        except (TemplateError, TypeError, ValueError, KeyError, AttributeError) as error:
            raise InputRefused(f"The chat template refuses these messages: {error}") from None
        return text

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

    def _check_vocabulary(self, ids: Collection[int], where: str) -> None:
        if ids and (min(ids) < 0 or max(ids) >= self._vocabulary):
            raise InputRefused(
                f"{where} has tokens outside the model's vocabulary of {self._vocabulary}."
            )


def length_of(content: Any) -> int:
    """Characters of a prompt, or of all messages of a chat."""
    if isinstance(content, str):
        return len(content)
    messages = content.get("messages") if isinstance(content, Mapping) else None
    texts = [m.get("content") for m in messages or () if isinstance(m, Mapping)]
    return sum(len(text) for text in texts if isinstance(text, str))


def _common(texts: list[list[int]]) -> list[int]:
    """What all of them begin with."""
    if not texts:
        return []
    shortest, longest = min(texts), max(texts)
    same = next((n for n, t in enumerate(shortest) if t != longest[n]), len(shortest))
    return shortest[:same]
