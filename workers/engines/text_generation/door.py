"""Checks a job before it joins the batch, and turns it into a sequence."""

from collections.abc import Collection, Mapping
from typing import Any

from jinja2.exceptions import TemplateError

from shared.catalog import Limits
from shared.errors import InputRefused
from workers.engines.base import Work
from workers.engines.text_generation.defaults import NONE, Defaults
from workers.engines.text_generation.detokenizer import Detokenizer
from workers.engines.text_generation.sampler import Sampling
from workers.engines.text_generation.sequence import Sequence


class Door:
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

    def admit(self, work: Work) -> Sequence:
        """The sequence; it has `ended` where an earlier attempt has finished its text already.

        Raises `InputRefused`.
        """
        max_new_tokens = int(work.params.get("max_new_tokens", self._limits.max_new_tokens))
        prompt = self._prompt(work.content)
        self._check_room(len(prompt), max_new_tokens)
        ends = frozenset(work.params.get("stop_token_ids") or ())
        self._check_vocabulary([*prompt, *work.token_ids], "The input")
        self._check_vocabulary(ends, "stop_token_ids")
        if work.text and not work.token_ids:
            raise InputRefused("A text can only be continued from its tokens.")
        stops = (*(work.params.get("stop") or ()), *self._defaults.stops)
        heard = self._detokenizer.resume(work.token_ids, work.text, stops)
        sequence = Sequence(
            id=work.id,
            tokens=[*prompt, *work.token_ids],
            prompt_length=len(prompt),
            max_new_tokens=max_new_tokens,
            sampling=Sampling.of(work.params, work.seed, self._defaults),
            stops=stops,
            ends=ends,
            spoken=heard.spoken,
            text=[work.text] if work.text else [],
        )
        if heard.stopped:
            sequence.ended = "stop"
        elif sequence.generated >= max_new_tokens:
            sequence.ended = "length"
        return sequence

    def _prompt(self, content: Any) -> list[int]:
        if isinstance(content, str):
            ids: list[int] = self._tokenizer(content, verbose=False)["input_ids"]
        elif isinstance(content, Mapping) and isinstance(content.get("messages"), list):
            text = self._chat(content["messages"])
            ids = self._tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
        else:
            raise InputRefused('The prompt must be a string or {"messages": [...]}.')
        if not ids and self._tokenizer.bos_token_id is not None:
            ids = [self._tokenizer.bos_token_id]
        if not ids:
            raise InputRefused("The prompt is empty.")
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

    def _check_room(self, prompt: int, max_new_tokens: int) -> None:
        limits = self._limits
        if prompt > limits.max_prompt_tokens:
            raise InputRefused(
                f"The prompt has {prompt} tokens; this model takes {limits.max_prompt_tokens}.",
                code="prompt_too_long",
            )
        if not 1 <= max_new_tokens <= limits.max_new_tokens:
            raise InputRefused(
                f"max_new_tokens must be from 1 to {limits.max_new_tokens}, got {max_new_tokens}."
            )
        if self._context is not None and prompt + max_new_tokens > self._context:
            raise InputRefused(
                f"The prompt's {prompt} tokens and max_new_tokens {max_new_tokens} together exceed"
                f" the model's context of {self._context}."
            )

    def _check_vocabulary(self, ids: Collection[int], where: str) -> None:
        if ids and (min(ids) < 0 or max(ids) >= self._vocabulary):
            raise InputRefused(
                f"{where} has tokens outside the model's vocabulary of {self._vocabulary}."
            )
