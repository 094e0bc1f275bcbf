"""Tokenises texts and pairs in the way that a sentence-transformers directory asks for."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from jinja2 import TemplateError
from tokenizers.normalizers import Lowercase
from tokenizers.normalizers import Sequence as Normalizers

from shared.domain.errors import ConfigError, InputRefused
from shared.domain.requests.prompt_bounds import PromptBounds
from workers.engines.encoding.tokenized_text import TokenizedText
from workers.engines.encoding.truncation import Cut, Truncation, cut_ids
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
PROBES = ("a", "b c")
"""Two texts that have nothing in common: what their chats end with alike is the template's."""
KEPT_PROMPTS = 256
"""Lengths of prompts that are remembered: jobs may bring prompts of their own."""

Pair = tuple[str, str]


@dataclass(frozen=True, slots=True)
class ChatForm:
    """Texts are put through the tokenizer's chat template, as the message of a user.

    `structured`: a message's content is a list of parts, None when the template itself must tell.
    `options` are variables for the template. A pair is a message of a query and one of a document.
    """

    structured: bool | None = None
    options: Mapping[str, Any] = field(default_factory=dict)


class TextReader:
    """Puts a prompt before texts and tokenizes them.

    `chat`: through the chat template, None for plain text. `lower`: in lower case. `skip_prompt`: pooling
    leaves a prompt's tokens out. `special`: with the tokenizer's special tokens.
    """

    def __init__(
        self,
        tokenizer: Any,
        *,
        family: str,
        chat: ChatForm | None = None,
        lower: bool = False,
        skip_prompt: bool = False,
        special: bool = True,
    ) -> None:
        if lower:
            _lower(tokenizer)
        self._tokenizer = tokenizer
        self._truncation = Truncation(tokenizer)
        self._chat = chat
        self._special = special
        self._structured = _structured(tokenizer, family, chat)
        # A message holds the prompt as a turn of its own, which sentence-transformers never leaves out.
        self._skip_prompt = skip_prompt and chat is None
        self._prompt_lengths: dict[str, int] = {}

    def bounds(self, tokens: int) -> PromptBounds:
        """What a text of at most `tokens` tokens can have: nothing certain behind a chat template."""
        if self._chat is not None:
            return PromptBounds(tokens)
        return prompt_bounds(self._tokenizer, tokens)

    def counting(self) -> Callable[[str, bool], Any] | None:
        """As `tokenizer_bounds.counting`; None behind a chat template, which may leave text out."""
        return None if self._chat is not None else counting(self._tokenizer)

    def read(
        self, texts: Sequence[str], prompt: str = "", cut: Cut | None = None
    ) -> list[TokenizedText]:
        """Tokens of each text behind `prompt`. Raises `InputRefused` for a text that the template refuses."""
        skip = self._prompt_length(prompt) if prompt and self._skip_prompt else 0
        if self._chat is not None:
            start = [("system", prompt)] if prompt else []
            return self._chats([[*start, ("user", text)] for text in texts], cut)
        return self._tokens([prompt + text for text in texts], cut, skip=skip)

    def take(self, lists: Sequence[list[int]], cut: Cut | None = None) -> list[TokenizedText]:
        """Token ids as they stand: with no prompt, no special tokens and no chat template."""
        side = "right" if cut is None else self._truncation.side(cut)
        typed = self._tokens(["a"], None)[0].types is not None
        found = [cut_ids(ids, cut, side) for ids in lists]
        return [TokenizedText(ids, [0] * len(ids) if typed else None) for ids in found]

    def read_pairs(
        self, pairs: Sequence[Pair], prompt: str = "", cut: Cut | None = None
    ) -> list[TokenizedText]:
        """Tokens of each pair, `prompt` before its first half. Raises as `read` does."""
        if self._chat is not None:
            start = [("system", prompt)] if prompt else []
            return self._chats([[*start, ("query", a), ("document", b)] for a, b in pairs], cut)
        firsts = [prompt + first for first, _ in pairs]
        return self._tokens(firsts, cut, [second for _, second in pairs])

    def refuses_pairs(self) -> bool:
        """Whether a chat template leaves out one half of a pair."""
        if self._chat is None:
            return False
        one, other, third = (
            self._rendered([("query", a), ("document", b)])
            for a, b in (("x1", "y1"), ("x2", "y1"), ("x1", "y2"))
        )
        return len({one, other, third}) < 3

    def _tokens(
        self,
        texts: list[str],
        cut: Cut | None,
        seconds: list[str] | None = None,
        *,
        special: bool | None = None,
        skip: int = 0,
    ) -> list[TokenizedText]:
        tokenizer, options = self._tokenizer, dict[str, Any](truncation=False)
        if cut is not None:
            tokenizer = self._truncation.tokenizer(cut)
            options = {"truncation": "longest_first", "max_length": cut.tokens}
        encoded = tokenizer(
            texts,
            seconds,
            add_special_tokens=self._special if special is None else special,
            padding=False,
            return_attention_mask=False,
            verbose=False,
            **options,
        )
        types = encoded.get("token_type_ids") or [None] * len(texts)
        return [
            TokenizedText(ids, kinds, skip)
            for ids, kinds in zip(encoded["input_ids"], types, strict=True)
        ]

    def _chats(self, chats: list[list[tuple[str, str]]], cut: Cut | None) -> list[TokenizedText]:
        """Tokens of chats. Where the end is cut off, the template's own last tokens are put back."""
        rendered = [self._rendered(turns) for turns in chats]
        found = self._tokens(rendered, cut, special=False)
        if cut is None or self._truncation.side(cut) == "left":
            return found
        return [
            self._ended(text, turns) if len(text) >= cut.tokens else text
            for text, turns in zip(found, chats, strict=True)
        ]

    def _ended(self, text: TokenizedText, turns: list[tuple[str, str]]) -> TokenizedText:
        fillers = [[(r, t if r == "system" else probe) for r, t in turns] for probe in PROBES]
        one, other = self._tokens([self._rendered(turn) for turn in fillers], None, special=False)
        shared = 0
        while shared < min(len(one), len(other)) and one.ids[-1 - shared] == other.ids[-1 - shared]:
            shared += 1
        if not shared:
            return text
        tail = one.ids[-shared:][-len(text) :]
        return TokenizedText([*text.ids[: len(text) - len(tail)], *tail], text.types, text.skip)

    def _rendered(self, turns: Sequence[tuple[str, str]]) -> str:
        assert self._chat is not None
        messages = [
            {
                "role": role,
                "content": [{"type": "text", "text": said}] if self._structured else said,
            }
            for role, said in turns
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
        known = self._prompt_lengths.get(prompt)
        if known is None:
            ids = self._tokens([prompt], None)[0].ids
            closed = bool(ids) and ids[-1] in self._tokenizer.all_special_ids
            known = len(ids) - closed
            if len(self._prompt_lengths) < KEPT_PROMPTS:
                self._prompt_lengths[prompt] = known
        return known


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
