"""An engine that does to itself what the prompt says: for tests of what surrounds engines."""

import os
import signal
import time

from shared.catalog import ModelSpec
from shared.errors import ConfigError, InputRefused
from workers.engines.base import Broke, EngineInfo, Finished, Piece, Step, Work


class Faulty:
    """Prompts: `refuse`, `raise`, `break`, `nan`, `hang`, `exit`, `segfault`, `utter`, `slow N`; others
    echo."""

    def __init__(self, spec: ModelSpec) -> None:
        self._options = spec.options
        self._works: dict[str, Work] = {}
        self._said: dict[str, int] = {}

    def load(self) -> EngineInfo:
        if self._options.get("load") == "refuse":
            raise ConfigError("this model cannot be served")
        if self._options.get("load") == "raise":
            raise RuntimeError("loading broke")
        return EngineInfo(capacity=8, continues=bool(self._options.get("continues")))

    def admit(self, work: Work) -> None:
        if work.content == "refuse":
            raise InputRefused("not this one")
        self._works[work.id] = work
        self._said[work.id] = len(work.text)

    def cancel(self, job_id: str) -> None:
        self._works.pop(job_id, None)
        self._said.pop(job_id, None)

    def step(self) -> Step:
        pieces: list[Piece] = []
        outcomes: list[Finished | Broke] = []
        for work in list(self._works.values()):
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

    def linger(self) -> float:
        return 0.0

    def _crawl(
        self, work: Work, length: int, pieces: list[Piece], outcomes: list[Finished | Broke]
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

    def _act(self, work: Work, word: str) -> Finished | Broke:
        match word:
            case "raise":
                raise RuntimeError("the step broke")
            case "break":
                return Broke(work.id, "engine_error", "this row broke")
            case "object":
                return Finished(work.id, object())
            case "hang":
                time.sleep(3600)
            case "exit":
                os._exit(7)
            case "segfault":
                os.kill(os.getpid(), signal.SIGSEGV)
        return Finished(work.id, {"text": work.content, "seed": work.seed})
