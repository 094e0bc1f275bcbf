"""The state directory is its owner's alone: it holds the token, the embedded Redis' password and all jobs."""

import fcntl
import os
import pwd
import stat
from pathlib import Path

from shared.domain.errors import ConfigError

OTHERS = stat.S_IRWXG | stat.S_IRWXO
OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH
PRIVATE = ("token", "lock", "redis")
"""What stands in it that nobody else may have put there."""


class StateLock:
    """At most one server works in a state directory. The lock goes with the process that took it."""

    def __init__(self, state_dir: Path) -> None:
        """Take the lock. Raises `ConfigError`, naming the process that holds it where one does.

        The directory is made where there is none, and must be this user's own.
        """
        self.path = state_dir / "lock"
        self.notes = private_folder(state_dir)
        """What had to be put right in the directory, a sentence each."""
        try:
            self._descriptor = os.open(
                self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600
            )
        except OSError as error:
            raise ConfigError(
                f"TRUTHGPT_STATE_DIR: cannot write to {state_dir}: {error.strerror}"
            ) from None
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(self._descriptor, 32, 0).decode("ascii", "replace").strip()
            os.close(self._descriptor)
            raise ConfigError(
                f"TRUTHGPT_STATE_DIR: {state_dir} is in use by process {holder or 'unknown'}; "
                "stop it, or give another --state-dir"
            ) from None
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, f"{os.getpid()}\n".encode(), 0)

    def release(self) -> None:
        """Let go. The file stays: removing it would let two processes lock two files of one name."""
        os.close(self._descriptor)


def private_folder(path: Path) -> list[str]:
    """Make the directory where there is none, and close it to others where it is open.

    Returns a sentence for each thing that was put right. Raises `ConfigError` where the directory, or what
    matters in it, is somebody else's: who owns it reads the token and changes the data.
    """
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        _require_own(path, path.lstat())
        found = path.stat()
    except OSError as error:
        raise ConfigError(f"TRUTHGPT_STATE_DIR: cannot write to {path}: {error.strerror}") from None
    if not stat.S_ISDIR(found.st_mode):
        raise ConfigError(f"TRUTHGPT_STATE_DIR: cannot write to {path}: it is no directory")
    _require_own(path, found)
    if not found.st_mode & OTHERS_WRITE:
        return []
    # First closed, then looked at: nobody puts anything in between the two.
    path.chmod(stat.S_IMODE(found.st_mode) & ~OTHERS)
    for name in PRIVATE:
        inside = path / name
        if inside.is_symlink() or inside.exists():
            _require_own(inside, inside.lstat())
    return [
        f"{path} was open to others' writing (mode {stat.S_IMODE(found.st_mode):04o}); it is closed now"
    ]


def private_file(path: Path) -> None:
    """Close a file with a secret to others. Raises `ConfigError` where it is somebody else's, or a link."""
    found = path.lstat()
    if stat.S_ISLNK(found.st_mode):
        raise ConfigError(
            f"TRUTHGPT_STATE_DIR: {path} is a symbolic link; put the file itself there"
        )
    _require_own(path, found)
    if found.st_mode & OTHERS:
        path.chmod(0o600)


def _require_own(path: Path, found: os.stat_result) -> None:
    if found.st_uid == os.geteuid():
        return
    try:
        owner = pwd.getpwuid(found.st_uid).pw_name
    except KeyError:
        owner = f"user {found.st_uid}"
    kind = "the link " if stat.S_ISLNK(found.st_mode) else ""
    raise ConfigError(
        f"TRUTHGPT_STATE_DIR: {kind}{path} belongs to {owner}, who could read the token and change the "
        "data; give a --state-dir of your own, or change its owner (chown)"
    )
