"""Computes how long a text of so many tokens can be at most, from the parts of its tokenizer.

A bound must never refuse what could fit. So every part of the tokenizer has to be one that is known not to
make text vanish; of any other nothing is said, and the text is tokenised to be counted.
https://huggingface.co/docs/tokenizers/components
"""

import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from shared.domain.requests.prompt_bounds import PromptBounds
from workers.engines.loading.vocabulary import byte_level_alphabet

LONGEST_CHARACTER = 4
"""Bytes that a character takes in UTF-8 at the most."""
SHRINK = {"NFC": 4, "NFD": 4, "NFKC": 4, "NFKD": 4, "Lowercase": 4, "Prepend": 1, "ByteLevel": 1}
"""Normalizers that drop nothing, and how many bytes they may make one byte of, at most.

A character has four bytes at most and leaves one at least; composed ones were tried, all of Unicode.
"""
DROPS_NOTHING = {"ByteLevel", "Metaspace", "Digits", "UnicodeScripts", "Split", "Punctuation"}
"""Pre-tokenizers that only cut, as long as their `behavior` is not to remove what they find."""
CUTS_AT_SPACES = {"BertPreTokenizer", "Whitespace", "WhitespaceSplit", "Metaspace", "ByteLevel"}
KEEPS_WORDS = {
    *("NFC", "NFD", "NFKC", "NFKD", "Lowercase", "Prepend"),
    *("BertNormalizer", "StripAccents", "Strip", "Precompiled", "Nmt"),
}
"""Normalizers that may drop much, but neither ASCII letters and digits nor single spaces between words."""
PROBE = "what <think>why</think>\n\nis {}"
"""A message that a template which leaves reasoning out, or keeps one paragraph, does not render whole."""


def prompt_bounds(tokenizer: Any, tokens: int, *, chats: bool = False) -> PromptBounds:
    """What a text of at most `tokens` tokens of this transformers tokenizer can have.

    `chats`: messages are put through its chat template.
    """
    roles = rendered_roles(tokenizer) if chats else ()
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None or not hasattr(backend, "get_added_tokens_decoder"):
        return PromptBounds(tokens, roles=roles)
    longest = longest_token(backend)
    return PromptBounds(
        tokens,
        tokens * longest if longest is not None else None,
        tokens if keeps_words_apart(backend) else None,
        roles,
    )


def counting(tokenizer: Any) -> Callable[[str, bool], Any] | None:
    """Encodes a text, with or without special tokens, into what knows its length before it lists its ids.

    The interpreter is free meanwhile. None where the ids may be others than the tokenizer's own call gives.
    """
    own = getattr(type(tokenizer), "_encode_plus", None)
    if getattr(own, "__module__", "") != "transformers.tokenization_utils_tokenizers":
        return None
    # Whatever the file says of padding and truncation is set aside by the first call, for good.
    tokenizer("a", verbose=False)
    backend = tokenizer.backend_tokenizer
    return lambda text, special: backend.encode(text, add_special_tokens=special)


def longest_token(backend: Any) -> int | None:
    """Bytes of a text that one token can stand for at most; None where there is no such number."""
    parts = _parts(backend.pre_tokenizer)
    shrink = _shrink(_parts(backend.normalizer))
    added = list(backend.get_added_tokens_decoder().values())
    cuts = all(
        p["type"] in DROPS_NOTHING and p.get("behavior", "Isolated") != "Removed" for p in parts
    )
    # A token that strips takes in all spaces beside it.
    if shrink is None or not cuts or any(token.lstrip or token.rstrip for token in added):
        return None
    if type(backend.model).__name__ != "BPE":
        # An unknown word, or a run of unknown letters, is one token, however long.
        return None
    names = backend.get_vocab(with_added_tokens=False)
    spelled = max((len(token.content.encode()) for token in added), default=0)
    if any(p["type"] == "ByteLevel" for p in (*parts, *_parts(backend.normalizer))):
        if not byte_level_alphabet().keys() <= names.keys():
            return None
        return shrink * max(spelled, *map(len, names))
    model = backend.model
    whole = model.byte_fallback and all(f"<0x{byte:02X}>" in names for byte in range(256))
    # Without either, letters that are unknown are left out, or run together.
    if not whole and (model.unk_token is None or model.fuse_unk):
        return None
    return shrink * max(spelled, LONGEST_CHARACTER, *(len(name.encode()) for name in names))


def keeps_words_apart(backend: Any) -> bool:
    """Whether each word between spaces becomes a token at least."""
    if type(backend.model).__name__ not in ("WordPiece", "WordLevel", "Unigram"):
        return False
    if not all(_keeps_words(part) for part in _parts(backend.normalizer)):
        return False
    if any(" " in token.content for token in backend.get_added_tokens_decoder().values()):
        return False
    return any(
        part["type"] in CUTS_AT_SPACES and part.get("split", True) and part.get("use_regex", True)
        for part in _parts(backend.pre_tokenizer)
    )


def rendered_roles(tokenizer: Any) -> tuple[str, ...]:
    """Whose messages the chat template puts into its text whole, spaces around them aside."""
    if not getattr(tokenizer, "chat_template", None):
        return ()
    turns = [(role, PROBE.format(f"{role}{n}")) for n in range(3) for role in ("user", "assistant")]
    for first in ([("system", PROBE.format("system"))], []):
        messages = [{"role": role, "content": content} for role, content in (*first, *turns[:-1])]
        try:
            text = tokenizer.apply_chat_template(
                messages, tokenize=False, add_generation_prompt=True
            )
        except Exception:  # noqa: BLE001, S112 - a template is a program: it may refuse this one
            continue
        whole = {m["role"]: True for m in messages}
        for message in messages:
            whole[message["role"]] &= message["content"] in text
        return tuple(role for role in whole if whole[role])
    return ()


def _keeps_words(part: Mapping[str, Any]) -> bool:
    if part["type"] == "Replace":
        return part["pattern"] == {"Regex": " {2,}"} and part["content"] in (" ", "▁")
    return part["type"] in KEEPS_WORDS


def _shrink(parts: Iterable[Mapping[str, Any]]) -> int | None:
    """How many bytes of a text become one at most; None where text may vanish."""
    shrink = 1
    for part in parts:
        if part["type"] == "Replace":
            pattern = part["pattern"].get("String", "")
            if not pattern or len(part["content"].encode()) < len(pattern.encode()):
                return None
            continue
        if part["type"] not in SHRINK:
            return None
        shrink *= SHRINK[part["type"]]
    return shrink


def _parts(component: Any) -> list[dict[str, Any]]:
    """A normalizer or pre-tokenizer as its JSON, sequences opened."""
    if component is None:
        return []
    return list(_opened(json.loads(component.__getstate__())))


def _opened(part: dict[str, Any]) -> Iterable[dict[str, Any]]:
    inner = part.get("normalizers") or part.get("pretokenizers")
    if part.get("type") != "Sequence" or inner is None:
        yield part
        return
    for one in inner:
        yield from _opened(one)
