import pytest

from workers.engines.texts.messages.thoughts import TAGS, Thoughts

THINK = TAGS[0]


def read(text: str, size: int, tags: tuple[str, str] = THINK, *, thinking: bool = False) -> tuple:
    thoughts = Thoughts(tags, thinking=thinking)
    parts = [thoughts.feed(text[at : at + size]) for at in range(0, len(text), size)]
    parts.append(thoughts.end())
    return "".join(p.thought for p in parts), "".join(p.said for p in parts)


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
@pytest.mark.parametrize(
    ("text", "thinking", "expected"),
    [
        ("<think>\nIs it?\n</think>\n\nYes.", False, ("Is it?", "Yes.")),
        (" \n<think>a\n\nb</think>c\n", False, ("a\n\nb", "c\n")),
        ("Is it?\n</think>\n\nYes.", True, ("Is it?", "Yes.")),
        ("Is it", True, ("Is it", "")),
        ("Is it\n\n</thi", True, ("Is it\n\n</thi", "")),
        ("Is it\n\n", True, ("Is it", "")),
        ("<think></think>\nYes", False, ("", "Yes")),
        ("<thin", False, ("", "<thin")),
        ("  Yes <think>no</think>", False, ("", "  Yes <think>no</think>")),
        ("\n\n", False, ("", "\n\n")),
        ("a < b </think", True, ("a < b </think", "")),
    ],
)
def test_thoughts_stand_apart_however_a_text_is_cut(
    size: int, text: str, thinking: bool, expected: tuple[str, str]
) -> None:
    assert read(text, size, thinking=thinking) == expected


def test_other_families_have_other_tags() -> None:
    assert read("[THINK]a[/THINK]b", 2, TAGS[1]) == ("a", "b")


def test_thoughts_are_told_as_they_come() -> None:
    thoughts = Thoughts(THINK, thinking=True)

    assert thoughts.feed("\nIs it") == ("Is it", "")
    assert thoughts.feed("\n</") == ("", "")
    assert thoughts.feed("b>?") == ("\n</b>?", "")
    assert thoughts.feed("</think>\n\nYes") == ("", "Yes")
