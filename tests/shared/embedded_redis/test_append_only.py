"""What counts as a torn end, and what is left for a person."""

from pathlib import Path

import pytest

from shared.embedded_redis.append_only import LARGEST_GARBAGE, Check, check, cut, last_file
from shared.embedded_redis.binaries import find_binary

SET = b"*3\r\n$3\r\nSET\r\n$1\r\na\r\n$1\r\nb\r\n"
BIG = b"*3\r\n$3\r\nSET\r\n$1\r\na\r\n$3000000\r\n" + b"x" * (2 * LARGEST_GARBAGE)
MULTI = b"*1\r\n$5\r\nMULTI\r\n"


def checked(tmp_path: Path, content: bytes) -> Check:
    file = tmp_path / "appendonly.aof"
    file.write_bytes(content)
    found = check(find_binary()[0], file)
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("end", "torn"),
    [
        (b"", False),
        (b"\0", True),
        (b"*", True),
        (b"*3\r", True),
        (b"*3\r\n$3\r\nSE", True),
        (b"*3\r\n$3\r\nSET\r", True),
        (b"*3\r\n$3\r\nSET\r\n" + b"\0" * 5000, True),
        (b"*3\r\n$3\r\nS" + b"\0" * 5000, True),
        (MULTI + SET, True),
        (BIG, True),
        (BIG + b"\0" * 99, True),
        (b"?" * 99, True),
        (b"?" * (LARGEST_GARBAGE + 1), False),
        (b"\0" * 99 + SET * (LARGEST_GARBAGE // 20), False),
    ],
)
def test_an_end_that_was_never_written_whole_is_torn(
    tmp_path: Path, end: bytes, torn: bool
) -> None:
    found = checked(tmp_path, SET + end)
    assert found.sound == len(SET)
    assert found.torn is torn


def test_a_file_of_zeros_alone_is_torn_and_one_of_garbage_alone_is_not(tmp_path: Path) -> None:
    assert checked(tmp_path, b"\0" * 4096).torn
    assert not checked(tmp_path, b"*1\r\n$garbage\r\n" * 9).torn


def test_a_cut_leaves_the_sound_part_and_a_copy_of_all(tmp_path: Path) -> None:
    found = checked(tmp_path, SET + b"\0" * 99)
    copy = cut(found)
    assert found.file.read_bytes() == SET
    assert copy.read_bytes() == SET + b"\0" * 99
    assert copy.parent == found.file.parent


def test_the_last_file_of_a_manifest_is_the_one_that_was_written_to(tmp_path: Path) -> None:
    assert last_file(tmp_path) is None
    (tmp_path / "appendonly.aof").touch()
    assert last_file(tmp_path) == tmp_path / "appendonly.aof"
    folder = tmp_path / "appendonlydir"
    folder.mkdir()
    names = ["appendonly.aof.2.base.rdb", "appendonly.aof.2.incr.aof", "appendonly.aof.3.incr.aof"]
    for name in names:
        (folder / name).touch()
    (folder / "appendonly.aof.manifest").write_text(
        f"file {names[0]} seq 2 type b\nfile appendonly.aof.1.incr.aof seq 1 type h\n"
        f"file {names[1]} seq 2 type i\nfile {names[2]} seq 3 type i\n"
    )
    assert last_file(tmp_path) == folder / names[2]


def test_a_program_that_is_no_checker_gives_no_answer(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert check(Path("/bin/true"), tmp_path / "file") is None
    assert check(tmp_path / "absent", tmp_path / "file") is None
