"""Where processes spend their processor time, by themselves: see hook/sitecustomize.py."""

import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from bench.profile.stages import stage_of

HOOK = Path(__file__).parent / "hook"


class Sampler:
    """Processes that are started with `env` sample themselves between `start` and `stop`."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._wanted = folder / "wanted"
        self._wanted.unlink(missing_ok=True)
        for old in folder.glob("stacks-*"):
            old.unlink()

    @property
    def env(self) -> dict[str, str]:
        """What a process must find in its environment."""
        paths = [str(HOOK), os.environ.get("PYTHONPATH", "")]
        return {
            "PROFILE_FOLDER": str(self._folder.resolve()),
            "PYTHONPATH": os.pathsep.join(filter(None, paths)),
        }

    def start(self) -> None:
        self._wanted.touch()

    def stop(self, groups: Mapping[str, Sequence[int]]) -> dict[str, dict[str, float]]:
        """Processor microseconds by group and stage; `groups` are process ids."""
        self._wanted.unlink(missing_ok=True)
        spent: dict[str, Counter[str]] = {group: Counter() for group in groups}
        for group, pids in groups.items():
            for pid in pids:
                for stack, microseconds in stacks(self._folder / f"stacks-{pid}"):
                    spent[group][stage_of(group, stack)] += microseconds
        return {group: dict(found) for group, found in spent.items()}


def stacks(path: Path) -> Iterator[tuple[list[str], int]]:
    """A process's stacks, innermost frame last, with what was spent there (microseconds)."""
    if not path.exists():
        return
    for line in path.read_text("utf-8").splitlines():
        stack, _, spent = line.rpartition(" ")
        yield stack.split(";"), int(spent)
