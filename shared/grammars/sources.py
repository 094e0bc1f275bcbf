"""Grammars in the notation of llguidance, and the bounds within which it may work on them."""

import re
from collections.abc import Mapping
from typing import Any

import msgspec
from llguidance import LLMatcher, LLParserLimits, LLTokenizer, TokenizerWrapper

from shared.domain.requests.grammars import MAX_ALTERNATIVES, MAX_GRAMMAR
from shared.grammars.calls import calls_lark
from shared.grammars.json_schemas import enforceable_schema, with_guidance
from shared.grammars.patterns import PatternRefused, enforceable
from shared.grammars.refusal import GrammarRefused


def _limits(items: int) -> LLParserLimits:
    return LLParserLimits(
        max_items_in_row=items,
        initial_lexer_fuel=500_000,
        step_lexer_fuel=100_000,
        step_max_items=25_000,
        max_lexer_states=50_000,
        max_grammar_size=100_000,
        verbose_errors=False,
    )


# A token of an ambiguous grammar costs the square of its items: some 5 ms at 500. Schemas are not ambiguous,
# and one of 400 properties that may be left out has 1,600 items.
LIMITS, LARK_LIMITS = _limits(2000), _limits(500)
OPENED = ord("{")
MAX_LARK_REPEAT = 1000
_TOLD = (
    ("oneOf", "oneOf"),
    ("patternProperty", "patternProperties"),
    ("maxProperties", "maxProperties"),
    ("float range", "minimum"),
    ("integer range", "minimum"),
    ("regex", "pattern"),
)
"""Words in errors of llguidance, and the keyword that is meant."""
_EMBEDDED = re.compile(r"^\s*%(?!ignore\b)\w+|%(json|regex|lark)\b|<\[|@", re.MULTILINE)
"""What would bring other notations, options, or tokens of one model into a Lark grammar."""
_REPEAT = re.compile(r"[{~][\s\d,.]*?(\d{4,})")


def source_of(grammar: Mapping[str, Any]) -> str:
    """A grammar of a request, whose shape was checked, for llguidance; the same one for the same grammar.

    Raises `GrammarRefused`.
    """
    if (schema := grammar.get("json_schema")) is not None:
        checked = enforceable_schema(schema, ("json_schema",))
        return str(LLMatcher.grammar_from_json_schema(_json(with_guidance(checked))))
    if (pattern := grammar.get("regex")) is not None:
        return str(LLMatcher.grammar_from_lark(f"start: {_lark_regex(pattern)}"))
    if (choices := grammar.get("choices")) is not None:
        if len(_json(choices)) > MAX_GRAMMAR:
            raise GrammarRefused(("choices",), "choices", f"at most {MAX_GRAMMAR} bytes together")
        return str(LLMatcher.grammar_from_lark(f"start: {' | '.join(map(_lark_text, choices))}"))
    if (calls := grammar.get("calls")) is not None:
        return str(LLMatcher.grammar_from_lark(calls_lark(calls)))
    return str(LLMatcher.grammar_from_lark(_checked_lark(grammar["lark"])))


def compiled(source: str, tokenizer: LLTokenizer) -> LLMatcher:
    """The source for a tokenizer, at the beginning of a text. Its state says whether it is of use."""
    schemas = source.startswith("{") or "%json" in source
    return LLMatcher(tokenizer, source, log_level=0, limits=LIMITS if schemas else LARK_LIMITS)


class ByteTokenizer:
    """A token a byte: with it a grammar can be tried out where no model is."""

    eos_token_id = 256
    bos_token_id = None

    def __init__(self) -> None:
        self.tokens = [*(bytes([byte]) for byte in range(256)), b"<end>"]
        self.special_token_ids = [256]

    def __call__(self, text: bytes | str) -> list[int]:
        return list(text if isinstance(text, bytes) else text.encode())


BYTES = LLTokenizer(TokenizerWrapper(ByteTokenizer()))


def check(grammar: Mapping[str, Any]) -> None:
    """Compile a grammar of a request and ask for its first tokens, with the Python lock released.

    Raises `GrammarRefused` for one that cannot be enforced, costs too much, or has no text at all.
    """
    [kind] = grammar
    base = ("input", "tools") if kind == "calls" else ("params", "grammar")
    matcher = compiled(source_of(grammar), BYTES)
    mask = b"" if matcher.is_error() else matcher.compute_bitmask()
    if kind == "json_schema" and not matcher.is_error() and mask[OPENED // 8] >> OPENED % 8 & 1:
        # All members that may come first stand side by side here.
        matcher.consume_token(OPENED)
        mask = matcher.compute_bitmask()
    if matcher.is_error():
        raise GrammarRefused((kind,), _keyword(kind, matcher.get_error()), _words(matcher), base)
    if not any(mask):
        raise GrammarRefused((kind,), kind, "no text follows this grammar", base)


def _keyword(kind: str, error: str) -> str:
    """The keyword of JSON Schema that an error of llguidance is about, as far as it says."""
    if kind != "json_schema":
        return kind
    return next((keyword for word, keyword in _TOLD if word in error), kind)


def _words(matcher: LLMatcher) -> str:
    error = matcher.get_error().replace("<non-verbose/>", " ")
    if "NoExtension" in error:
        return "no text follows this grammar"
    return " ".join(error.split()) or "llguidance cannot compile it"


def _lark_regex(pattern: str) -> str:
    try:
        checked = enforceable(pattern, whole=True)
    except PatternRefused as error:
        raise GrammarRefused(("regex",), "regex", str(error)) from None
    return f"/{checked.removeprefix('^').removesuffix('$')}/"


def _lark_text(choice: str) -> str:
    """A text in quotes; characters beyond ASCII as they are."""
    return _json(choice)


def _checked_lark(lark: str) -> str:
    if (found := _EMBEDDED.search(lark)) is not None:
        what = found[0].strip()
        raise GrammarRefused(("lark",), "lark", f"{what!r} is not taken here; plain rules are")
    if (found := _REPEAT.search(lark)) is not None and int(found[1]) > MAX_LARK_REPEAT:
        raise GrammarRefused(
            ("lark",), "lark", f"a part is repeated at most {MAX_LARK_REPEAT} times"
        )
    if lark.count("|") > MAX_ALTERNATIVES:
        raise GrammarRefused(("lark",), "lark", f"at most {MAX_ALTERNATIVES} alternatives")
    return lark


def _json(value: Any) -> str:
    return msgspec.json.encode(value).decode()
