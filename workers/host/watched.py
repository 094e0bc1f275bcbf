"""Wraps an engine so that the worker can see from outside which call it is in."""

from typing import Any

from workers.engines.base import Engine, EngineInfo, Step, Work
from workers.host_protocol.progress import Progress


class Watched:
    """Notes each call of an engine that may never come back: since when it runs, and for which job.

    What else the engine has (`budget`, `taken`) is had from it.
    """

    def __init__(self, engine: Engine, progress: Progress) -> None:
        self._engine = engine
        self._call = progress.call

    def load(self) -> EngineInfo:
        return self._engine.load()

    def admit(self, work: Work) -> None:
        with self._call(work.id):
            self._engine.admit(work)

    def cancel(self, job_id: str) -> None:
        with self._call(job_id):
            self._engine.cancel(job_id)

    def step(self) -> Step:
        with self._call():
            return self._engine.step()

    def pending(self) -> int:
        return self._engine.pending()

    def batch_delay(self) -> float:
        with self._call():
            return self._engine.batch_delay()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)
