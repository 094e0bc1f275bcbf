"""Lines of an input are found wherever the storage's pieces end."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.batches import lines as module
from api.batches.lines import lines
from shared.files import open_storage

MOST = 40


def stored(folder: Path, content: bytes) -> str:
    writer = open_storage(None, folder).create("files/input")
    writer.write(content)
    writer.publish()
    return "files/input"


@given(
    texts=st.lists(st.binary(max_size=60).map(lambda text: text.replace(b"\n", b" ")), max_size=12),
    piece=st.integers(1, 30),
    last=st.booleans(),
)
def test_lines_are_those_of_the_text_and_each_is_found_again_by_its_place(
    tmp_path_factory: pytest.TempPathFactory, texts: list[bytes], piece: int, last: bool
) -> None:
    content = b"\n".join(texts) + (b"\n" if last else b"")
    folder = tmp_path_factory.mktemp("storage")
    place, storage = stored(folder, content), open_storage(None, folder)
    wanted = [
        text.removeprefix(b"\xef\xbb\xbf").strip() if at == 0 else text.strip()
        for at, text in enumerate(texts)
    ]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "CHUNK", piece)
        found = list(lines(storage, place, len(content), MOST))
        again = [
            next(lines(storage, place, len(content), MOST, one.number, one.offset)) for one in found
        ]

    assert [one.data for one in found] == [
        text if len(text) <= MOST else None for text in wanted if text
    ]
    assert [one.number for one in found] == list(range(len(found)))
    assert again == found
