"""The torn end of an append-only file: cut, so that the server starts; a copy of the file stays beside it.

A machine that loses power may leave half a command at the file's end, or zero bytes where the last blocks
were never written (ext4 and XFS do). What is cut was never confirmed to be on the disk: it is at most what
the last second brought. Damage in the middle of a file is another matter and is left for a person.
"""

import re
import shutil
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

LARGEST_GARBAGE = 1024 * 1024
"""Bytes at a file's end that are neither zeros nor half a command and are still taken for a torn end."""
CHECK_SECONDS = 600.0
BLOCK = 1024 * 1024
LONGEST_LINE = 128
"""Bytes of a line of the protocol: a count, or the time at which commands were written."""


@dataclass(frozen=True, slots=True)
class Check:
    """What the server's own checker says of a file: it is sound up to `sound` of `size` bytes."""

    file: Path
    size: int
    sound: int

    @property
    def torn(self) -> bool:
        """Whether what follows the sound part is an end that was never written whole."""
        rest = self.size - self.sound
        if rest <= 0:
            return False
        if _breaks_off(self.file, self.sound):
            return True
        return self.sound > 0 and rest <= LARGEST_GARBAGE


def last_file(folder: Path) -> Path | None:
    """The append-only file that was being written to in an embedded server's folder; None where none is."""
    manifest = folder / "appendonlydir" / "appendonly.aof.manifest"
    try:
        lines = manifest.read_text("utf-8", "replace").splitlines()
    except OSError:
        single = folder / "appendonly.aof"
        return single if single.exists() else None
    # One a line, in order: `file NAME seq N type b|i|h`. History files are waiting to be removed.
    named = [found for line in lines if (found := re.match(r"file (\S+) seq \d+ type [bi]", line))]
    file = manifest.parent / named[-1][1] if named else None
    return file if file is not None and file.exists() else None


def check(binary: Path, file: Path) -> Check | None:
    """Let the server's checker read a file; None where it gives no answer, or the file is no such file.

    Servers are their own checkers, by the name under which they are called.
    """
    try:
        done = subprocess.run(
            # The bare name: checkers of some releases copy a path into a short buffer.
            ["redis-check-aof", file.name],  # noqa: S607 - a name; what runs is `executable`
            executable=binary,
            cwd=file.parent,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=CHECK_SECONDS,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    found = re.search(rb"AOF analyzed:.*\bsize=(\d+), ok_up_to=(\d+)", done.stdout)
    return Check(file, int(found[1]), int(found[2])) if found is not None else None


def cut(damage: Check) -> Path:
    """Cut a torn end off. Returns the copy of the file as it was. Raises `OSError`; nothing is cut then."""
    moment = time.strftime("%Y%m%dT%H%M%S", time.gmtime())
    copy = damage.file.with_name(f"{damage.file.name}.torn-{moment}-{time.time_ns() % 10**6:06}")
    shutil.copy2(damage.file, copy)
    copy.chmod(0o600)
    with damage.file.open("r+b") as file:
        file.truncate(damage.sound)
    return copy


def _breaks_off(file: Path, start: int) -> bool:
    """Whether only whole commands, then at most half a one, then at most zero bytes follow from `start`."""
    size = file.stat().st_size
    with file.open("rb") as opened:
        opened.seek(start)
        while line := opened.readline(LONGEST_LINE):
            if not line.endswith(b"\n"):
                begun = line.partition(b"\0")[0]
                opened.seek(opened.tell() - len(line) + len(begun))
                return re.fullmatch(rb"[*$#]?[\w:]*\r?", begun) is not None and _only_zeros(opened)
            if (bulk := re.fullmatch(rb"\$(\d+)\r\n", line)) is not None:
                end = opened.tell() + int(bulk[1])
                if end >= size:
                    return True
                opened.seek(end)
                if (closing := opened.read(2)) != b"\r\n":
                    opened.seek(end)
                    return closing in (b"\r", b"\r\0", b"\0", b"\0\0") and _only_zeros(
                        opened, b"\r\0"
                    )
            elif re.fullmatch(rb"(\*\d+|#.*)\r\n", line) is None:
                return False
    return True


def _only_zeros(opened: BinaryIO, allowed: bytes = b"\0") -> bool:
    return not any(block.strip(allowed) for block in iter(lambda: opened.read(BLOCK), b""))
