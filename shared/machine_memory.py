"""How much memory there is for this machine's processes, or for this container's."""

from pathlib import Path

import psutil

STORES_PART = 0.25
STORES_LEAST = 256 * 2**20

_CGROUPS = (
    Path("/sys/fs/cgroup/memory.max"),
    Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
)


def machine_memory(limits: tuple[Path, ...] = _CGROUPS) -> int:
    """Bytes of the machine, or of the control group in which we run where that has fewer."""
    found = [int(psutil.virtual_memory().total)]
    for path in limits:
        try:
            text = path.read_text("ascii").strip()
        except (OSError, UnicodeError):
            continue
        if text.isdigit():
            found.append(int(text))
    return min(found)


def stores_part() -> int:
    """What an embedded store may take where nothing else is said: a quarter, for models need the most."""
    return max(STORES_LEAST, int(STORES_PART * machine_memory()))
