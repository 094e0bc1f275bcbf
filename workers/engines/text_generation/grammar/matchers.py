"""Compiles grammars for a model's tokens, and says which tokens may follow a text.

A matcher is a function of the tokens that it has been fed. So a resumed attempt, fed with what the earlier
one has said, allows exactly the tokens that the earlier one would have allowed.
"""

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Collection, Mapping
from collections.abc import Sequence as Items
from copy import copy
from typing import Any

import msgspec
from llguidance import LLMatcher, LLTokenizer

from shared.domain.errors import InputRefused
from shared.grammars.refusal import GrammarRefused
from shared.grammars.sources import compiled, source_of

REMEMBERED = 64
"""Compiled grammars that are kept; one takes some hundred kilobytes."""


class Matcher:
    """Follows one text through its grammar. One thread at a time uses it."""

    __slots__ = ("_ends", "_model_ends", "inner")

    def __init__(
        self, inner: LLMatcher, ends: Collection[int], model_ends: Collection[int]
    ) -> None:
        self.inner = inner
        self._ends = tuple(ends)
        self._model_ends = tuple(end for end in model_ends if end not in ends)

    def take(self, token: int) -> None:
        """The text has gone on with a token that was allowed."""
        self.inner.consume_token(token)

    @property
    def complete(self) -> bool:
        """The text may end where it is."""
        return not self.inner.is_error() and bool(self.inner.is_accepting())

    def write_mask(self, words: Any) -> None:
        """Set the bits of the tokens that may come next in `words`, a writable array of int32: token t is bit
        t % 32 of word t // 32. No bit is set where the grammar knows no way on.
        """
        self.inner.unsafe_compute_mask_ptr(words.ctypes.data, words.nbytes)
        if self.inner.is_error():
            words.fill(0)
            return
        bits = words.view("uint8")
        for token in self._model_ends:
            bits[token // 8] &= ~(1 << token % 8) & 0xFF
        if self._ends and self.inner.is_accepting():
            for token in self._ends:
                bits[token // 8] |= 1 << token % 8


class Grammars:
    """The grammars of one model's jobs. Safe to share between threads.

    `width` is how many logits the model has, which may be more than its tokenizer has tokens, or fewer;
    `ends` are the tokens that end its texts.
    """

    def __init__(self, tokenizer: Any, width: int, ends: Collection[int]) -> None:
        self._tokenizer = tokenizer
        self._width = max(width, len(tokenizer))
        self._ends = frozenset(end for end in ends if end < len(tokenizer)) or _stand_in(tokenizer)
        self._lock = threading.Lock()
        self._tokens: LLTokenizer | None = None
        self._compiled: OrderedDict[bytes, LLMatcher] = OrderedDict()

    @property
    def words(self) -> int:
        """How many words of 32 bits a mask has."""
        return -(-self._width // 32)

    def knows(self, grammar: Mapping[str, Any] | None) -> bool:
        """Whether a job's matcher is at hand at once; else `compile` is called first, where nobody waits."""
        return not grammar or _digest(grammar) in self._compiled

    def compile(self, grammar: Mapping[str, Any] | None) -> None:
        """Make the grammar of a job ready. Raises `InputRefused`."""
        if grammar:
            self._pristine(grammar)

    def matcher(
        self, grammar: Mapping[str, Any] | None, said: Items[int], ends: Collection[int]
    ) -> Matcher | None:
        """The matcher of a job whose text has begun with the tokens `said`, None for one without a grammar.

        `ends` are the tokens that end this text. Raises `InputRefused`.
        """
        if not grammar:
            return None
        matcher = self._pristine(grammar)
        matcher.try_consume_tokens(list(said))
        return Matcher(matcher, ends, self._ends)

    def _pristine(self, grammar: Mapping[str, Any]) -> LLMatcher:
        """A matcher of one's own at the beginning of a text."""
        name = _digest(grammar)
        with self._lock:
            if (found := self._compiled.get(name)) is not None:
                self._compiled.move_to_end(name)
                return found.deep_copy()
        made = self._compile(grammar)
        with self._lock:
            self._compiled[name] = made
            while len(self._compiled) > REMEMBERED:
                self._compiled.popitem(last=False)
            return made.deep_copy()

    def _compile(self, grammar: Mapping[str, Any]) -> LLMatcher:
        try:
            made = compiled(source_of(grammar), self._model_tokens())
        except GrammarRefused as refused:
            raise InputRefused(refused.detail, code=refused.code) from None
        if made.is_error():
            message = f"The grammar cannot be compiled for this model: {made.get_error()[:300]}"
            raise InputRefused(message, code=GrammarRefused.code)
        return made

    def _model_tokens(self) -> LLTokenizer:
        with self._lock:
            if self._tokens is None:
                self._tokens = grammar_tokens(self._tokenizer, self._width, self._ends)
            return self._tokens


def grammar_tokens(tokenizer: Any, width: int, ends: Collection[int]) -> LLTokenizer:
    """The tokens of a fast tokenizer of transformers as bytes, for masks of `width` tokens.

    Raises `InputRefused` for a tokenizer that spells its tokens in a way which llguidance does not know.
    """
    backend = copy(getattr(tokenizer, "backend_tokenizer", None))
    try:
        if backend is None:
            raise ValueError("it has no tokenizer.json")
        backend.no_padding()
        backend.no_truncation()
        return LLTokenizer(backend.to_str(), n_vocab=width, eos_token=sorted(ends))
    except (ValueError, TypeError, RuntimeError) as error:
        raise InputRefused(
            f"This model's tokenizer cannot hold texts to a grammar: {error}",
            code=GrammarRefused.code,
        ) from None


def _stand_in(tokenizer: Any) -> frozenset[int]:
    """For a model without end tokens: llguidance wants one. It is never allowed, for it ends no text."""
    return frozenset((min(tokenizer.all_special_ids, default=len(tokenizer) - 1),))


def _digest(grammar: Mapping[str, Any]) -> bytes:
    """Of all that a grammar says, in its order, which is that of the text."""
    return hashlib.blake2b(msgspec.json.encode(grammar), digest_size=16).digest()
