"""What a tokenizer's ids stand for: text, bytes, or nothing that is shown."""

import json
import re
from collections.abc import Callable, Iterable
from collections.abc import Sequence as Items
from dataclasses import dataclass
from typing import Any

REPLACEMENT = "\ufffd"
BYTE_TOKEN = re.compile(r"<0x([0-9A-Fa-f]{2})>")
REPLACEMENT_BYTES = REPLACEMENT.encode()

Decode = Callable[[Items[int]], str]


@dataclass(frozen=True)
class Vocabulary:
    """`decode` leaves special tokens out, `spell` writes them out; neither touches spaces.

    `specials` are the ids that `decode` leaves out. `byte_tokens` stand for one byte each, which becomes
    text together with its neighbours. `anchor` is a token that is a plain letter or word, to be decoded in
    front of others; empty where there is none. `raw` gives the bytes of a token.
    """

    decode: Decode
    spell: Decode
    specials: frozenset[int]
    byte_tokens: frozenset[int]
    anchor: tuple[int, ...]
    raw: Callable[[int], bytes]

    @classmethod
    def of(cls, tokenizer: Any) -> "Vocabulary":
        """Of a transformers tokenizer."""

        def decode(ids: Items[int]) -> str:
            text: str = tokenizer.decode(
                list(ids), skip_special_tokens=True, clean_up_tokenization_spaces=False
            )
            return text

        def spell(ids: Items[int]) -> str:
            text: str = tokenizer.decode(
                list(ids), skip_special_tokens=False, clean_up_tokenization_spaces=False
            )
            return text

        names: dict[str, int] = tokenizer.get_vocab()
        added = {*tokenizer.all_special_ids, *getattr(tokenizer, "added_tokens_decoder", {})}
        specials = frozenset(t for t in added if not decode((t,)) and spell((t,)))
        byte_tokens = frozenset(names[t] for t in names if BYTE_TOKEN.fullmatch(t))
        return cls(
            decode,
            spell,
            specials,
            byte_tokens,
            _anchor(decode, sorted(names.values()), specials | byte_tokens),
            _raw(tokenizer, added),
        )

    def ends_in_replacement(self, ids: Items[int]) -> bool:
        """The tokens end in a real U+FFFD, one that the model has said and no decoder put there."""
        tail = b"".join(self.raw(token) for token in ids[-3:] if token not in self.specials)
        return tail.endswith(REPLACEMENT_BYTES)

    def name(self, token: int, *, first: bool = False) -> str:
        """A token's own text, a special one's too; as the `first` of a text, or as any other.

        Bytes that are not a whole character are U+FFFD.
        """
        before = self.spell(self.anchor) if self.anchor and not first else ""
        if not before:
            return self.spell((token,))
        text = self.spell((*self.anchor, token))
        return text[len(before) :] if text.startswith(before) else self.spell((token,))


def byte_level_alphabet() -> dict[str, int]:
    """The letters in which byte-level tokenizers spell bytes (GPT-2's `bytes_to_unicode`)."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    alphabet = {chr(byte): byte for byte in printable}
    return alphabet | {chr(256 + place): byte for place, byte in enumerate(others)}


def _anchor(decode: Decode, ids: Iterable[int], without: frozenset[int]) -> tuple[int, ...]:
    for token in ids:
        if token in without:
            continue
        text = decode((token,))
        if text.isascii() and text.isalnum() and decode((token, token)).startswith(text):
            return (token,)
    return ()


def _raw(tokenizer: Any, added: Iterable[int]) -> Callable[[int], bytes]:
    """The bytes of a token by its name, as its tokenizer spells names."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    decoder = json.loads(backend.decoder.__getstate__()) if backend and backend.decoder else {}
    parts = decoder.get("decoders", [decoder])
    alphabet = byte_level_alphabet() if any(p.get("type") == "ByteLevel" for p in parts) else {}
    plain = frozenset(added)

    def raw(token: int) -> bytes:
        name = tokenizer.convert_ids_to_tokens(token) or ""
        if found := BYTE_TOKEN.fullmatch(name):
            return bytes([int(found[1], 16)])
        if alphabet and token not in plain and all(letter in alphabet for letter in name):
            return bytes(alphabet[letter] for letter in name)
        return str(name).encode()

    return raw
