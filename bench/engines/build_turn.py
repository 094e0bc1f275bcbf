"""`python bench/engines/build_turn.py FOLDER WAY`, run as a file: one turn of whichever checkout is imported.

With PYTHONPATH naming a checkout of this project, its engine serves the model in FOLDER; the demands come as
JSON on stdin, and tokens, seconds and processor seconds go out as JSON. WAY `static` makes it run one text
after the other, `own` as the engine itself chooses.
"""

import importlib
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.engines.driving import drive
from bench.engines.generating import THREADS
from bench.engines.llama import as_text
from workers.engines.base import Work
from workers.engines.text_generation.engine import TextGeneration

CATALOGUE = ("shared.domain.models.catalog", "shared.domain.catalog", "shared.catalog")
STATIC = (
    "workers.engines.text_generation.forward.static",
    "workers.engines.text_generation.static",
)
"""Where the builds have these modules, the newest first."""


def main(folder: str, way: str) -> None:
    """Load, answer once to warm up, answer."""
    asked = json.load(sys.stdin)
    catalogue = first_of(CATALOGUE)
    spec = catalogue.ModelSpec(
        name="measured",
        engine="text-generation",
        path=Path(folder),
        device="cpu",
        dtype="float32",
        threads=THREADS,
        batch=catalogue.Batch(max_size=len(asked), prefix_reuse=False),
        limits=catalogue.Limits(max_prompt_tokens=256, max_new_tokens=256),
    )
    engine = TextGeneration(spec)
    info = engine.load()
    batching = info.details["batching"]
    if way == "static" and batching != "static":
        together: Any = engine._runner
        together.detach()
        model = together._model
        engine._runner = first_of(STATIC).StaticRunner(model, model.device)
        batching = "static"
    works = [
        Work(str(n), as_text(prompt), {"max_new_tokens": wanted}, seed=0)
        for n, (prompt, wanted) in enumerate(asked)
    ]
    drive(engine, [Work("warm", as_text([2, 3]), {"max_new_tokens": 4}, seed=0)], info.capacity)
    began = time.process_time()
    driven = drive(engine, works, info.capacity)
    found = {
        "batching": batching,
        "tokens": [driven.tokens[work.id] for work in works],
        "seconds": driven.seconds,
        "cpu": time.process_time() - began,
    }
    json.dump(found, sys.stdout)


def first_of(names: Sequence[str]) -> Any:
    """The first of the modules that the imported checkout has. Raises ImportError when it has none."""
    for name in names[:-1]:
        try:
            return importlib.import_module(name)
        except ModuleNotFoundError:
            continue
    return importlib.import_module(names[-1])


if __name__ == "__main__":
    main(*sys.argv[1:])
