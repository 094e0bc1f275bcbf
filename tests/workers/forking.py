"""A model that starts processes as its input says: for tests of what a host does about them."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import Any

from workers.engines.one_shot import OneShotModel

IGNORED = (
    "print([line.split()[1] for line in open('/proc/self/status') if line.startswith('SigIgn')][0])"
)
OPEN = "import pathlib; print(*[p.readlink() for p in pathlib.Path('/proc/self/fd').iterdir() if p.exists()])"


def length(text: str) -> int:
    return len(text)


class Forking(OneShotModel):
    """Inputs: `pool`, `executor`, `fork`, `ignored`, `open`."""

    def predict(self, inputs: list[Any]) -> Sequence[Any]:
        return [getattr(self, str(item).replace(" ", "_"))() for item in inputs]

    def pool(self) -> Any:
        with multiprocessing.Pool(2) as pool:
            return [multiprocessing.get_start_method(), *pool.map(length, ["a", "bb", "ccc"])]

    def executor(self) -> Any:
        with ProcessPoolExecutor(2) as executor:
            return list(executor.map(length, ["a", "bb"]))

    def fork(self) -> Any:
        """How a fork of the host itself ends that is sent SIGTERM."""
        pid = os.fork()
        if pid == 0:
            time.sleep(60)
            os._exit(0)
        os.kill(pid, signal.SIGTERM)
        return os.WTERMSIG(os.waitpid(pid, 0)[1])

    def ignored(self) -> Any:
        return int(self._said(IGNORED), 16)

    def open(self) -> Any:
        return self._said(OPEN).split()

    def _said(self, code: str) -> str:
        command = [sys.executable, "-S", "-c", code]
        return subprocess.run(
            command, capture_output=True, text=True, check=True, close_fds=False
        ).stdout
