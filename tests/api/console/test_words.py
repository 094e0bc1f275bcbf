"""Every text of the console has its Spanish, and no Spanish is left of a text that is gone."""

import json
import re
from pathlib import Path

import pytest

import api.console
from api.console.words import Words, texts
from shared.domain.audit import Action, Via
from shared.domain.schemas import Usage
from shared.domain.states import CLASSES, JobState

FOLDER = Path(api.console.__path__[0])
SAID = re.compile(r"""\bt\(\s*(?:"((?:[^"\\]|\\.)*)"|'([^']*)')""")
TOLD = re.compile(r'(?:Step\(|_rejected\(\s*visit, |visit\.words\()"([^"]+)"')
CODED = {"state:", "usage:", "ority:", "tcome:", "ction:", "via:"}
"""Ends of texts to which a word of the API is added."""
STATES = {state.value.capitalize() for state in JobState} - {"Running"}


def english() -> set[str]:
    found = {
        one or other
        for file in FOLDER.rglob("*.html")
        for one, other in SAID.findall(file.read_text("utf-8"))
    }
    found |= {
        text for file in FOLDER.rglob("*.py") for text in TOLD.findall(file.read_text("utf-8"))
    }
    return {text for text in found if text[-6:] not in CODED} | STATES


def test_every_text_is_there_in_spanish_and_no_other_is() -> None:
    coded = set(texts("en"))

    assert set(texts("es")) == english() | coded


def test_words_of_the_api_are_told_in_every_language() -> None:
    codes = {f"state:{state}" for state in JobState}
    codes |= {f"priority:{name}" for name in CLASSES}
    codes |= {f"usage:{name}" for name in Usage.model_fields}
    codes |= {f"action:{action}" for action in Action} | {f"via:{way}" for way in Via}

    assert codes <= set(texts("en"))


def test_what_is_filled_in_is_the_same_in_both_languages() -> None:
    for text, spanish in texts("es").items():
        assert set(re.findall(r"{\w+}", spanish)) == set(re.findall(r"{\w+}", text)), text


@pytest.mark.parametrize("language", ["en", "es"])
def test_a_file_of_a_language_says_nothing_twice(language: str) -> None:
    pairs: list[tuple[str, str]] = []
    json.loads(
        (FOLDER / "languages" / f"{language}.json").read_text("utf-8"),
        object_pairs_hook=pairs.extend,
    )

    names = [name for name, _ in pairs]
    assert len(names) == len(set(names))


def test_a_text_is_filled_in() -> None:
    assert Words("es")("{tokens} tokens", tokens=3) == "3 tokens"
    assert Words("en")("Not known {anywhere}") == "Not known {anywhere}"
