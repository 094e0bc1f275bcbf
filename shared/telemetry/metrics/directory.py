"""Metrics of all processes of one machine, in one directory of memory-mapped files.

Each process writes files of its own (prometheus_client's multiprocess mode) and keeps a file locked as
long as it lives. Whoever reads buries the dead first: their gauges go, their counters and
histograms are added to the files `*_past.db`, so that sums never fall and files stay few. The first
process that finds nobody alive starts from nothing.
"""

import fcntl
import os
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from prometheus_client import values
from prometheus_client.mmap_dict import MmapedDict, mmap_key
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead
from prometheus_client.registry import Collector

VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
LOCK_PATIENCE = 0.5
"""Seconds. A reader that waited so long for the others reads what is there."""
PAST = "past"
KINDS = ("counter", "histogram")


class Directory(Collector):
    """`join` once, before any metric is made; `collect` gives the sums over all processes."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._pid = 0
        self._name = ""
        self._held: list[int] = []
        """The locked descriptor; the kernel lets go of it when this process ends, however it ends."""

    def join(self) -> None:
        """Make this process's metrics part of the directory. Raises `OSError`."""
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        with self._locked():
            if not self._living():
                for file in self._files("*.db"):
                    file.unlink()
        self._identity()
        os.environ[VARIABLE] = str(self.path)
        values.ValueClass = values.MultiProcessValue(self._identity)

    def collect(self) -> list[Any]:
        """Metric families, summed over the living and the dead."""
        with self._locked() as alone:
            if alone:
                self._merge_dead()
            return list(_merged([file for file in self._files("*.db") if _filled(file)]))

    def _identity(self) -> str:
        """Names this process's files: never used twice, unlike a pid; another one after a fork."""
        pid = os.getpid()
        if pid != self._pid:
            for inherited in self._held:
                os.close(inherited)
            with self._locked():
                self._pid, self._name = pid, f"{pid}-{secrets.token_hex(4)}"
                self._held = [_lock(self.path / f"{self._name}.alive", os.O_CREAT)]
        return self._name

    def _living(self) -> set[str]:
        """Who keeps its file locked. Forgets those who do not."""
        living = set()
        for file in self._files("*.alive"):
            try:
                os.close(_lock(file))
            except BlockingIOError:
                living.add(file.stem)
            else:
                file.unlink()
        return living

    def _merge_dead(self) -> None:
        known = self._living() | {PAST}
        dead = {name for file in self._files("*.db") if (name := _owner(file)) not in known}
        if not dead:
            return
        for kind in KINDS:
            left = [file for file in self._files(f"{kind}_*.db") if _owner(file) in dead]
            past = self.path / f"{kind}_{PAST}.db"
            _write(past, _merged([file for file in (past, *left) if _filled(file)], summed=False))
            for file in left:
                file.unlink()
        for name in dead:
            mark_process_dead(name, str(self.path))

    def _files(self, pattern: str) -> list[Path]:
        return sorted(self.path.glob(pattern))

    @contextmanager
    def _locked(self) -> Iterator[bool]:
        """One at a time; False when that could not be had in time, for example of a paused process."""
        deadline = time.monotonic() + LOCK_PATIENCE
        descriptor = -1
        while descriptor < 0:
            try:
                descriptor = _lock(self.path / "lock", os.O_CREAT)
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    break
                time.sleep(0.005)
        try:
            yield descriptor >= 0
        finally:
            if descriptor >= 0:
                os.close(descriptor)


def _lock(file: Path, flags: int = 0) -> int:
    """An open descriptor that has the file's lock. Raises `BlockingIOError` where somebody has it."""
    descriptor = os.open(file, os.O_RDWR | os.O_CLOEXEC | flags, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def _owner(file: Path) -> str:
    return file.stem.rpartition("_")[2]


def _filled(file: Path) -> bool:
    """A file is empty for a moment after it was made."""
    return file.exists() and file.stat().st_size > 0


def _merged(files: list[Path], *, summed: bool = True) -> Any:
    return MultiProcessCollector.merge([str(file) for file in files], accumulate=summed)


def _write(file: Path, families: Any) -> None:
    fresh = file.with_suffix(".new")
    fresh.unlink(missing_ok=True)
    target = MmapedDict(str(fresh))
    for family in families:
        for sample in family.samples:
            names, labels = list(sample.labels), list(sample.labels.values())
            key = mmap_key(family.name, sample.name, names, labels, family.documentation)
            target.write_value(key, sample.value, 0.0)
    target.close()
    fresh.replace(file)
