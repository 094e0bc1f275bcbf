"""Regular expressions of JSON Schema (ECMA-262), in the words of the engine that enforces them (Rust's).

Readers of a text do not agree on everything: to JavaScript `\\d` is ASCII, to Python it is any digit. What is
written here matches only what both take, so that a text holds for whoever checks it. What cannot be told so
is refused: look-around, back-references, word boundaries, anchors inside, `\\p`.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from shared.domain.requests.grammars import MAX_PATTERN

MAX_REPEAT = 1000
"""Repeats that one quantifier may ask for."""
MAX_COPIES = 5000
"""Characters of a pattern with its repetitions written out."""
MAX_NESTING = 32

_DIGITS = ("0-9", r"\p{Nd}")
_WORDS = ("0-9A-Za-z_", r"\p{L}\p{N}\p{M}\p{Pc}\x{200c}\x{200d}")
_BLANKS = (
    r"\t\n\x{b}\x{c}\r\x{20}",
    r"\t\n\x{b}\x{c}\r\x{20}\x{1c}-\x{1f}\x{85}\x{a0}\x{1680}\x{180e}\x{2000}-\x{200a}\x{2028}\x{2029}"
    r"\x{202f}\x{205f}\x{3000}\x{feff}",
)
_SETS = {"d": _DIGITS, "w": _WORDS, "s": _BLANKS}
"""By escape: what every reader takes to be in it, and what any reader does."""
_CONTROLS = {"t": "\t", "n": "\n", "v": "\v", "f": "\f", "r": "\r", "0": "\0"}
_DOT = r"[^\n\r\x{2028}\x{2029}]"
_ANY = r"[\x{0}-\x{10ffff}]"


class PatternRefused(ValueError):
    """A pattern cannot be enforced; the message says why."""


@dataclass(frozen=True, slots=True)
class _Part:
    """`copies`: about how many states its automaton has."""

    text: str
    copies: int = 1


def enforceable(pattern: str, *, of_names: bool = False, whole: bool = False) -> str:
    """The pattern for llguidance, anchored at both ends. `whole`: it has to match the whole text, as a
    regular expression that stands alone does, not a part of it.

    `of_names`: it also decides which names it does not match, so nothing may depend on the reader.
    Raises `PatternRefused`.
    """
    if len(pattern) > MAX_PATTERN:
        raise PatternRefused(f"a pattern has at most {MAX_PATTERN} characters")
    return _Parser(pattern, of_names=of_names, whole=whole).read()


class _Parser:
    def __init__(self, pattern: str, *, of_names: bool, whole: bool) -> None:
        self._pattern = pattern
        self._at = 0
        self._of_names = of_names
        self._whole = whole

    def read(self) -> str:
        """The whole pattern, anchored, in the grammar engine's dialect. Raises `PatternRefused`."""
        parts = list(self._alternatives(0, top=True))
        if self._at < len(self._pattern):
            raise PatternRefused("a closing parenthesis has none that opens it")
        self._check_copies(sum(part.copies for part in parts))
        return f"^(?:{'|'.join(part.text for part in parts)})$"

    def _alternatives(self, depth: int, *, top: bool) -> Iterator[_Part]:
        if depth > MAX_NESTING:
            raise PatternRefused(f"groups are nested at most {MAX_NESTING} deep")
        while True:
            yield self._alternative(depth, top=top)
            if not self._take("|"):
                return

    def _alternative(self, depth: int, *, top: bool) -> _Part:
        begins = self._take("^")
        parts: list[_Part] = []
        ends = False
        while self._at < len(self._pattern) and self._peek() not in "|)":
            if self._take("$"):
                ends = True
                if self._at < len(self._pattern) and self._peek() not in "|)":
                    raise PatternRefused("`$` may only stand at an end")
                break
            parts.append(self._quantified(depth))
        if (begins or ends) and not top:
            raise PatternRefused("`^` and `$` may stand at the ends of the pattern only")
        text = "".join(part.text for part in parts)
        if top and not self._whole:
            text = ("" if begins else _ANY + "*") + text + ("" if ends else _ANY + "*")
        return _Part(text, 1 + sum(part.copies for part in parts))

    def _quantified(self, depth: int) -> _Part:
        part = self._atom(depth)
        bounds = self._quantifier()
        if bounds is None:
            return part
        least, most = bounds
        if max(least, most or 0) > MAX_REPEAT:
            raise PatternRefused(f"a part is repeated at most {MAX_REPEAT} times")
        if most is not None and most < least:
            raise PatternRefused("a repetition's bounds are the wrong way round")
        self._take("?")
        if self._at < len(self._pattern) and self._peek() in "*+?":
            raise PatternRefused("a quantifier follows a quantifier")
        copies = part.copies * max(1, least, most or 0)
        self._check_copies(copies)
        many = f"{{{least},{'' if most is None else most}}}"
        return _Part(f"(?:{part.text}){many}", copies)

    def _quantifier(self) -> tuple[int, int | None] | None:
        if self._take("*"):
            return 0, None
        if self._take("+"):
            return 1, None
        if self._take("?"):
            return 0, 1
        if self._pattern[self._at : self._at + 1] == "{":
            end = self._pattern.find("}", self._at) + 1 or len(self._pattern) + 1
            least, comma, most = self._pattern[self._at + 1 : end - 1].partition(",")
            if end <= len(self._pattern) and _number(least) and (not most or _number(most)):
                self._at = end
                if not comma:
                    return int(least), int(least)
                return int(least), int(most) if most else None
            raise PatternRefused("a `{` that repeats nothing is written `\\{`")
        return None

    def _atom(self, depth: int) -> _Part:
        letter = self._next()
        if letter == "(":
            return self._group(depth)
        if letter == "[":
            return _Part(self._class())
        if letter == ".":
            return _Part(r"[^\n]" if self._of_names else _DOT)
        if letter == "\\":
            return self._escape()
        if letter in "*+?{":
            raise PatternRefused("a quantifier has nothing to repeat")
        if letter in "^$":
            raise PatternRefused("`^` and `$` may stand at the ends of the pattern only")
        return _Part(_literal(letter))

    def _group(self, depth: int) -> _Part:
        if self._take("?") and not self._take(":"):
            raise PatternRefused("look-around, names of groups and flags cannot be enforced")
        parts = list(self._alternatives(depth + 1, top=False))
        if not self._take(")"):
            raise PatternRefused("a parenthesis is not closed")
        copies = sum(part.copies for part in parts)
        self._check_copies(copies)
        return _Part(f"(?:{'|'.join(part.text for part in parts)})", copies)

    def _escape(self) -> _Part:
        letter = self._peek()
        if letter.lower() in _SETS:
            self._at += 1
            self._check_reader(letter)
            inside, outside = _SETS[letter.lower()]
            return _Part(f"[{inside}]" if letter.islower() else f"[^{outside}]")
        if letter.isdigit() and letter != "0":
            raise PatternRefused("back-references cannot be enforced")
        if letter in "bB":
            raise PatternRefused("word boundaries cannot be enforced")
        return _Part(_literal(self._escaped()))

    def _check_reader(self, letter: str) -> None:
        if self._of_names:
            raise PatternRefused(
                f"`\\{letter}` means another thing to every reader; write the set out, such as [0-9]"
            )

    def _class(self) -> str:
        negated = self._take("^")
        items: list[str] = []
        while not self._take("]"):
            low = self._member(negated)
            if not self._ranges():
                items.append(self._found if low is None else _literal(low))
                continue
            self._at += 1
            high = self._member(negated)
            if low is None or high is None or high < low:
                raise PatternRefused("a range of a character class has no end, or a smaller one")
            items.append(f"{_literal(low)}-{_literal(high)}")
        if not items:
            raise PatternRefused("a character class is empty")
        return f"[{'^' if negated else ''}{''.join(items)}]"

    def _ranges(self) -> bool:
        """A hyphen follows that does not stand at the end of its class."""
        return self._pattern[self._at : self._at + 1] == "-" and (
            self._pattern[self._at + 1 : self._at + 2] not in ("]", "")
        )

    def _member(self, negated: bool) -> str | None:
        """A character of a class; None for a set, which is then in `_found`."""
        letter = self._next()
        if letter != "\\":
            return letter
        if self._peek().lower() in _SETS:
            letter = self._next()
            self._check_reader(letter)
            inside, outside = _SETS[letter.lower()]
            if letter.islower():
                self._found = outside if negated else inside
            else:
                self._found = f"[^{inside if negated else outside}]"
            return None
        if self._peek() == "b":
            self._at += 1
            return "\b"
        return self._escaped()

    def _escaped(self) -> str:
        """The character that an escape stands for; the backslash has been read."""
        letter = self._next()
        if letter in _CONTROLS:
            if letter == "0" and self._at < len(self._pattern) and self._peek().isdigit():
                raise PatternRefused("octal escapes cannot be enforced")
            return _CONTROLS[letter]
        if letter in "xu":
            return self._hex(2 if letter == "x" else 4)
        if letter.isalnum() or letter == "_":
            raise PatternRefused(f"`\\{letter}` cannot be enforced")
        return letter

    def _hex(self, count: int) -> str:
        digits = self._pattern[self._at : self._at + count]
        self._at += count
        try:
            found = int(digits, 16) if len(digits) == count and digits.isalnum() else 0xD800
        except ValueError:
            found = 0xD800
        if 0xD800 <= found < 0xE000:
            raise PatternRefused("an escape names no character; write one beyond U+FFFF itself")
        return chr(found)

    def _check_copies(self, copies: int) -> None:
        if copies > MAX_COPIES:
            raise PatternRefused(
                f"with its repetitions written out a pattern has at most {MAX_COPIES} parts"
            )

    def _peek(self) -> str:
        if self._at >= len(self._pattern):
            raise PatternRefused("the pattern ends too early")
        return self._pattern[self._at]

    def _next(self) -> str:
        letter = self._peek()
        self._at += 1
        return letter

    def _take(self, letter: str) -> bool:
        if self._pattern[self._at : self._at + 1] == letter:
            self._at += 1
            return True
        return False


def _number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 6


def _literal(letter: str) -> str:
    """A character that means itself, in a class as well."""
    return letter if letter.isascii() and letter.isalnum() else f"\\x{{{ord(letter):x}}}"
