"""How documents are read: blocks, commands, what a command is shown to print, links and anchors."""

import pytest

from tests.docs.pages import Block, Step, anchors, blocks, links, shows, steps

PAGE = """# A page: `with` code

[one](a.md) `[none](b.md)`

```console
$ first \\
    --option
printed
$ second
^C
```

```python title="model.py"
x = "[none](c.md)"
```

## Second part

[two](#second-part)
"""


def test_a_page_has_blocks_with_languages_and_titles() -> None:
    console, model = blocks(PAGE)

    assert (console.language, console.title) == ("console", None)
    assert model == Block("python", "model.py", 'x = "[none](c.md)"\n')


def test_a_console_block_has_commands_and_what_they_print() -> None:
    assert list(steps(blocks(PAGE)[0])) == [
        Step("first \\\n    --option", "printed"),
        Step("second", ""),
        Step("^C", ""),
    ]


def test_links_and_headings_are_those_outside_of_code() -> None:
    assert links(PAGE) == ["a.md", "#second-part"]
    assert anchors(PAGE) == {"a-page-with-code", "second-part"}


@pytest.mark.parametrize(
    ("shown", "printed", "same"),
    [
        ("succeeded ONE", "succeeded ONE\n", True),
        ('{"id":"job_…",…}', '{"id": "job_7", "status": "queued"}', True),
        ("a…c", "abd", False),
        ("a c", "a b c", False),
        ("", "anything", False),
    ],
)
def test_three_dots_stand_for_anything_and_nothing_else_does(
    shown: str, printed: str, same: bool
) -> None:
    assert shows(shown, printed) is same
