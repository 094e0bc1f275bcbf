"""What is measured: each subject starts its processes, says how it is asked, and ends them."""

import os
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import psutil

from bench.clients.order import Dialect

CORES = os.cpu_count() or 1
"""Front-end processes of every subject."""
Groups = Mapping[str, Callable[[], list[psutil.Process]]]
"""A subject's processes by what they are there for. Asked anew each time: processes come and go."""


@dataclass(frozen=True, slots=True)
class Serving:
    """A subject that runs. `redis_url` is the Redis of its own, None where it needs none."""

    url: str
    redis_url: str | None
    groups: Groups


class Subject(Protocol):
    """`variant` tells the ways apart in which one project is measured. `processes` is how many work.

    `environment` is that of `bench/environments.py` in which it runs, None is ours. A `durable` subject
    keeps what it has accepted when its processes end.
    """

    name: str
    processes: int
    durable: bool

    @property
    def environment(self) -> str | None: ...

    @property
    def variant(self) -> str: ...

    @property
    def settings(self) -> str:
        """For the report, in a line: what runs, and with which options."""

    @property
    def dialect(self) -> Dialect: ...

    def serve(self, folder: Path) -> AbstractContextManager[Serving]:
        """Start everything with its files in `folder`, end everything on leaving.

        It may not answer yet on entering; the load generator waits for the first answer.
        """
