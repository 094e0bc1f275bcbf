"""An engine that does to itself what the prompt says: for tests of what surrounds engines."""

import ctypes
import os
import resource
import signal
import sys
import time
from pathlib import Path
from typing import Any

from shared.domain.errors import ConfigError, InputRefused
from shared.domain.file_outputs import on_its_way
from shared.domain.models.catalog import ModelSpec
from workers.engines.base import EngineInfo, Failed, Finished, Piece, Step, Work
from workers.engines.batching.budget import Budget
from workers.engines.one_shot import OneShotModel

MIB = 2**20


class Faulty:
    """Prompts: `refuse`, `raise`, `draw`, `break`, `hang`, `exit`, `quit`, `babble`, `salt`, `adapter`,
    `half a token`, `segfault`, `utter`, `hold N` (the interpreter, for so many seconds), `blob N`,
    `environment`, `slow N`,
    `memory`, `hoard`, `balloon N` (MiB), `device assert`, `device lost`, `device lost once`, `cost N`;
    others echo.
    Before the model runs: `refuse`, `hang on admission`, `raise on admission`, `quit on admission`,
    `exit on admission`, `device assert on admission`.

    `options`: `load` (`refuse`, `raise`), `continues`, `once` (a file), `budget` with `memory`, `refused`
    (adapters).
    """

    def __init__(self, spec: ModelSpec) -> None:
        self._options = spec.options
        self._works: dict[str, Work] = {}
        self._said: dict[str, int] = {}
        self._held: list[bytes] = []
        if "budget" in spec.options:
            self.budget = Budget(spec.options["budget"])

    def load(self) -> EngineInfo:
        if self._options.get("load") == "refuse":
            raise ConfigError("this model cannot be served")
        if self._options.get("load") == "raise":
            raise RuntimeError("loading broke")
        return EngineInfo(
            capacity=8,
            continues=bool(self._options.get("continues")),
            details={"way": "slowly"},
            adapters={"french": {"rank": 4}},
            refused=self._options.get("refused", {}),
        )

    def admit(self, work: Work) -> None:
        match work.content:
            case "refuse":
                raise InputRefused("not this one")
            case "raise on admission":
                raise ZeroDivisionError
            case "quit on admission":
                raise SystemExit(1)
            case "hang on admission":
                time.sleep(3600)
            case "exit on admission":
                os._exit(7)
            case "device assert on admission":
                raise RuntimeError("CUDA error: device-side assert triggered")
        self._works[work.id] = work
        self._said[work.id] = len(work.text)

    def cancel(self, job_id: str) -> None:
        self._works.pop(job_id, None)
        self._said.pop(job_id, None)

    def step(self) -> Step:
        pieces: list[Piece] = []
        outcomes: list[Finished | Failed] = []
        for work in self._batch():
            word = str(work.content)
            if word.startswith("slow "):
                self._crawl(work, int(word.split()[1]), pieces, outcomes)
                continue
            if word == "utter":
                pieces.append(Piece(work.id, output=object()))
                continue
            outcomes.append(self._act(work, word))
        for outcome in outcomes:
            self.cancel(outcome.id)
        return Step(pieces, outcomes, len(self._works))

    def pending(self) -> int:
        return len(self._works)

    def batch_delay(self) -> float:
        return 0.0

    def _batch(self) -> list[Work]:
        """All of them, or as many as the budget takes; too many cost more memory than there is."""
        if not hasattr(self, "budget"):
            return list(self._works.values())
        batch: list[Work] = []
        spent = 0
        for work in self._works.values():
            cost = int(work.content.split()[1])
            if batch and spent + cost > self.budget.now:
                break
            batch.append(work)
            spent += cost
        self.budget.spend(spent, int(batch[0].content.split()[1]) if batch else 0)
        if spent > self._options["memory"]:
            raise MemoryError
        return batch

    def _crawl(
        self, work: Work, length: int, pieces: list[Piece], outcomes: list[Finished | Failed]
    ) -> None:
        """Say one letter every 5 ms."""
        time.sleep(0.005)
        text = "".join(chr(97 + i % 26) for i in range(length))
        said = self._said[work.id]
        if said < length:
            pieces.append(Piece(work.id, text[said], (said,)))
            self._said[work.id] = said + 1
        else:
            outcomes.append(Finished(work.id, {"text": text, "finish_reason": "stop"}))

    def _act(self, work: Work, word: str) -> Finished | Failed:
        match word:
            case "raise":
                raise RuntimeError("the step broke")
            case "salt":
                return Finished(work.id, {"text": work.salt})
            case "adapter":
                return Finished(work.id, {"text": work.adapter})
            case "draw":
                return Finished(work.id, {"image": on_its_way("cat.png", b"a cat")})
            case "break":
                return Failed(work.id, "engine_error", "this row broke")
            case "object":
                return Finished(work.id, object())
            case "half a token":
                return Finished(work.id, {"text": ""}, usage={"tokens": 0.5})  # type: ignore[dict-item]
            case "hang":
                time.sleep(3600)
            case "exit":
                os._exit(7)
            case "quit":
                raise SystemExit(1)
            case "babble":
                os.write(int(sys.argv[1]), b"\x00\x00\x00\x02\xc1\xc1")
                time.sleep(3600)
            case "segfault":
                os.kill(os.getpid(), signal.SIGSEGV)
            case "memory":
                raise MemoryError
            case "hoard":
                _exhaust_memory()
            case "device assert":
                raise RuntimeError("CUDA error: device-side assert triggered")
            case "device lost":
                raise RuntimeError("CUDA error: uncorrectable ECC error encountered")
            case "device lost once" if not (mark := Path(self._options["once"])).exists():
                mark.touch()
                raise RuntimeError("CUDA error: uncorrectable ECC error encountered")
            case "environment":
                return Finished(work.id, dict(os.environ))
            case _ if word.startswith("blob "):
                return Finished(work.id, {"text": "x" * int(word.split()[1])})
            case _ if word.startswith("hold "):
                ctypes.PyDLL(None).usleep(int(float(word.split()[1]) * 1e6))
            case _ if word.startswith("balloon "):
                self._held += [os.urandom(1) * MIB for _ in range(int(word.split()[1]))]
        return Finished(work.id, {"text": work.content, "seed": work.seed})


def _exhaust_memory() -> None:
    """Take memory until there is none left, within a limit that spares the machine."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + 64 * MIB, before[1]))
    held: list[bytearray] = []
    try:
        while True:
            held.append(bytearray(16 * MIB))
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


class FaultyModel(OneShotModel):
    """Inputs: `raise`, `few`, `many`, `nan`, `memory`; others come back.

    `nap` ends once there is the file `options["gate"]`, so that what comes meanwhile shares a batch. It
    makes the file `options["napping"]` when it begins.
    """

    def predict(self, inputs: list[Any]) -> list[Any]:
        if "nap" in inputs:
            gate = Path(self.options["gate"])
            Path(self.options["napping"]).touch()
            while not gate.exists():
                time.sleep(0.01)
            gate.unlink()
            time.sleep(0.2)
        if "raise" in inputs:
            raise RuntimeError("the step broke")
        if "memory" in inputs:
            raise MemoryError
        if "few" in inputs:
            return inputs[1:]
        if "many" in inputs:
            return [*inputs, "one more"]
        return [float("nan") if item == "nan" else item for item in inputs]
