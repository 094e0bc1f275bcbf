"""The text engine where longer steps cost next to nothing, however busy the machine is: it always drafts."""

from tests.workers.engines.text_generation.speculation.conftest import FREE
from workers.engines.base import EngineInfo
from workers.engines.text_generation.engine import TextGeneration
from workers.engines.text_generation.speculation import setup


class Drafting(TextGeneration):
    def load(self) -> EngineInfo:
        measure, setup.measure = setup.measure, lambda *_: FREE
        try:
            return super().load()
        finally:
            setup.measure = measure
