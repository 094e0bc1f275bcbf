"""Keeps what did not fit into memory over restarts: one small JSON file a model."""

import json
import logging
import os
from pathlib import Path

import msgspec
import psutil

from workers.engines.batching.budget import Budget, Learned

MOST_SHAPES = 32

_log = logging.getLogger(__name__)


class Ceilings:
    """The learned budget of one model, by device and shape: see `shape_key`.

    A file that cannot be read or written costs what it would have saved, and nothing else.
    """

    def __init__(self, path: Path, key: str) -> None:
        self._path = path
        self._key = key

    def recall(self, budget: Budget) -> None:
        """Take up what an earlier process learned."""
        found = self._read().get(self._key)
        if found is not None:
            budget.recall(found)
            _log.info("a step takes %g at first: more did not fit before", budget.now)

    def remember(self, budget: Budget) -> None:
        """Keep what was learned; the newest `MOST_SHAPES` of the file stay."""
        known = self._read()
        known.pop(self._key, None)
        if (learned := budget.learned) is not None:
            known[self._key] = learned
        newest = dict(list(known.items())[-MOST_SHAPES:])
        fresh = self._path.with_suffix(f".{os.getpid()}")
        try:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            fresh.write_bytes(msgspec.json.encode(newest))
            fresh.replace(self._path)
        except OSError as error:
            _log.warning("%s cannot be written: %s", self._path, error)

    def _read(self) -> dict[str, Learned]:
        try:
            return msgspec.json.decode(self._path.read_bytes(), type=dict[str, Learned])
        except FileNotFoundError:
            return {}
        except (OSError, msgspec.DecodeError) as error:
            _log.warning("%s cannot be read: %s", self._path, error)
            return {}


def device_identity(name: str) -> str:
    """The device behind a name, with its memory: a ceiling found on it holds for its like."""
    if not name.startswith("cuda"):
        return f"{name} {psutil.virtual_memory().total / 2**30:.0f} GiB"
    import torch

    found = torch.cuda.get_device_properties(name)
    return f"{found.name} {found.total_memory / 2**30:.0f} GiB"


def shape_key(device: str, dtype: str, sizes: dict[str, int]) -> str:
    """What a ceiling holds for: `device` with its memory, the number format, the longest job."""
    return json.dumps([device, dtype, sizes], sort_keys=True)
