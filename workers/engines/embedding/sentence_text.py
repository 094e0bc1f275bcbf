"""Tokenises texts in the way that a sentence-transformers directory asks for."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from jinja2 import TemplateError
from tokenizers.normalizers import Lowercase
from tokenizers.normalizers import Sequence as Normalizers

from shared.domain.errors import ConfigError, InputRefused
from shared.domain.prompt_bounds import PromptBounds
from workers.engines.loading.tokenizer_bounds import counting, prompt_bounds

TEMPLATE_FAULTS = (
    TemplateError,
    ArithmeticError,
    AttributeError,
    LookupError,
    RuntimeError,
    TypeError,
    ValueError,
)
"""What a chat template raises on a text that it does not take."""
FLAT_FAMILIES = ("apertus", "deepseek_v3", "gpt_oss", "seed_oss")
"""Model types whose chat templates want plain strings, whatever they look like."""
STRUCTURED_SIGNS = ("content[0]", ".type", "'type'", '"type"', "message.content[")
"""A chat template with one of these wants a message's content as a list of parts."""


@dataclass(frozen=True, slots=True)
class TokenizedText:
    """One text. `types` are token type ids where the tokenizer gives them; the first `skip` tokens are a
    prompt that pooling leaves out."""

    ids: list[int]
    types: list[int] | None = None
    skip: int = 0

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True, slots=True)
class ChatForm:
    """Texts are put through the tokenizer's chat template, as the message of a user.

    `structured`: a message's content is a list of parts, None when the template itself must tell.
    `options` are variables for the template.
    """

    structured: bool | None = None
    options: Mapping[str, Any] = field(default_factory=dict)


class TextReader:
    """Puts a prompt before texts and tokenizes them.

    `chat`: through the chat template, None for plain text. `lower`: in lower case. `skip_prompt`: pooling
    leaves a prompt's tokens out.
    """

    def __init__(
        self,
        tokenizer: Any,
        *,
        family: str,
        chat: ChatForm | None = None,
        lower: bool = False,
        skip_prompt: bool = False,
    ) -> None:
        self._tokenizer = tokenizer
        self._chat = chat
        self._structured = _structured(tokenizer, family, chat)
        # A message holds the prompt as a turn of its own, which sentence-transformers never leaves out.
        self._skip_prompt = skip_prompt and chat is None
        self._prompt_lengths: dict[str, int] = {}
        """Bounded by the prompts of the model's own configuration."""
        if lower:
            _lower(tokenizer)

    def bounds(self, tokens: int) -> PromptBounds:
        """What a text of at most `tokens` tokens can have: nothing certain behind a chat template."""
        if self._chat is not None:
            return PromptBounds(tokens)
        return prompt_bounds(self._tokenizer, tokens)

    def counting(self) -> Callable[[str, bool], Any] | None:
        """As `tokenizer_bounds.counting`; None behind a chat template, which may leave text out."""
        return None if self._chat is not None else counting(self._tokenizer)

    def read(self, texts: Sequence[str], prompt: str = "") -> list[TokenizedText]:
        """Tokens of each text behind `prompt`. Raises `InputRefused` for a text that the template refuses."""
        skip = self._prompt_length(prompt) if prompt and self._skip_prompt else 0
        if self._chat is not None:
            return self._tokens([self._rendered(text, prompt) for text in texts], special=False)
        return self._tokens([prompt + text for text in texts], skip=skip)

    def _tokens(
        self, texts: list[str], *, special: bool = True, skip: int = 0
    ) -> list[TokenizedText]:
        encoded = self._tokenizer(
            texts,
            add_special_tokens=special,
            truncation=False,
            padding=False,
            return_attention_mask=False,
            verbose=False,
        )
        types = encoded.get("token_type_ids") or [None] * len(texts)
        return [
            TokenizedText(ids, kinds, skip)
            for ids, kinds in zip(encoded["input_ids"], types, strict=True)
        ]

    def _rendered(self, text: str, prompt: str) -> str:
        assert self._chat is not None
        turns = [("system", prompt)] if prompt else []
        messages = [
            {
                "role": role,
                "content": [{"type": "text", "text": said}] if self._structured else said,
            }
            for role, said in [*turns, ("user", text)]
        ]
        try:
            rendered: str = self._tokenizer.apply_chat_template(
                messages, tokenize=False, **self._chat.options
            )
        except TEMPLATE_FAULTS as error:
            raise InputRefused(f"The chat template refuses this text: {error}") from None
        return rendered

    def _prompt_length(self, prompt: str) -> int:
        """Tokens of a prompt alone; a closing special token is not its own."""
        if prompt not in self._prompt_lengths:
            ids = self._tokens([prompt])[0].ids
            closed = bool(ids) and ids[-1] in self._tokenizer.all_special_ids
            self._prompt_lengths[prompt] = len(ids) - closed
        return self._prompt_lengths[prompt]


def _structured(tokenizer: Any, family: str, chat: ChatForm | None) -> bool:
    if chat is None or chat.structured is not None:
        return bool(chat and chat.structured)
    if family in FLAT_FAMILIES:
        return False
    template = tokenizer.chat_template
    if not isinstance(template, str) or not template:
        return True
    return any(sign in template for sign in STRUCTURED_SIGNS)


def _lower(tokenizer: Any) -> None:
    """Lower case before all other normalisation, unless the tokenizer does that by itself."""
    if not tokenizer.is_fast:
        raise ConfigError("do_lower_case: only tokenizers with a tokenizer.json can be changed")
    backend = tokenizer.backend_tokenizer
    found = backend.normalizer
    steps: list[Any] = [] if found is None else [found]
    if isinstance(found, Normalizers):
        steps = [found[number] for number in range(len(found))]
    if not any(isinstance(step, Lowercase) for step in steps):
        backend.normalizer = Normalizers([Lowercase(), *steps])
