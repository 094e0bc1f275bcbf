"""An engine whose health is files in a folder (`options.folder`): for tests of breakers.

`ill`: every job breaks. `hold`: no step ends. `runs`: each job that ran, a line with its content and what
became of it. `unloadable`: the model cannot be loaded.
"""

import time
from pathlib import Path

from shared.domain.models.catalog import ModelSpec
from workers.engines.base import EngineInfo, Failed, Finished, Step, Work


class Ailing:
    def __init__(self, spec: ModelSpec) -> None:
        self._folder = Path(str(spec.options["folder"]))
        self._capacity = int(str(spec.options.get("capacity", 8)))
        self._works: dict[str, Work] = {}

    def load(self) -> EngineInfo:
        if (self._folder / "unloadable").exists():
            raise RuntimeError("the model cannot be loaded")
        return EngineInfo(capacity=self._capacity)

    def admit(self, work: Work) -> None:
        self._works[work.id] = work

    def cancel(self, job_id: str) -> None:
        self._works.pop(job_id, None)

    def step(self) -> Step:
        if (self._folder / "hold").exists():
            time.sleep(0.005)
            return Step()
        ill = (self._folder / "ill").exists()
        outcomes: list[Finished | Failed] = []
        with (self._folder / "runs").open("a") as runs:
            for work in self._works.values():
                runs.write(f"{work.content} {'broke' if ill else 'finished'}\n")
                if ill:
                    outcomes.append(Failed(work.id, "engine_error", "ill"))
                else:
                    outcomes.append(Finished(work.id, {"text": work.content}))
        size = len(self._works)
        self._works.clear()
        return Step([], outcomes, size)

    def pending(self) -> int:
        return len(self._works)

    def batch_delay(self) -> float:
        return 0.0
