"""The console's languages: English as it is written in the templates, and what each text is in Spanish.

What the API itself says, the details of problems and errors of jobs, stays English.
"""

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path

ENGLISH = "en"
LANGUAGES = {ENGLISH: "English", "es": "Español"}
_FOLDER = Path(__file__).parent / "languages"


class Words:
    """What pages say in one language. Call it with the English text; `{name}` in it is filled in."""

    def __init__(self, language: str) -> None:
        self.language = language
        self._texts = texts(language)

    def __call__(self, english: str, **filled: object) -> str:
        text = self._texts.get(english, english)
        return text.format(**filled) if filled else text


@cache
def texts(language: str) -> Mapping[str, str]:
    """A language's texts by the English ones, and what words of the API stand for: `state:queued`."""
    found: dict[str, str] = json.loads((_FOLDER / f"{language}.json").read_text("utf-8"))
    return found
