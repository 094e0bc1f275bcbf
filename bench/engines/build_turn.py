"""`python bench/engines/build_turn.py FOLDER WAY`, run as a file: one turn of whichever checkout is imported.

With PYTHONPATH naming a checkout of this project, its engine serves the model in FOLDER; the demands come as
JSON on stdin, and tokens, seconds and processor seconds go out as JSON. WAY `static` makes it run one text
after the other, `own` as the engine itself chooses.
"""

import json
import sys
import time
from pathlib import Path
from typing import Any

from bench.engines.driving import drive
from bench.engines.generating import THREADS
from bench.engines.llama import as_text
from shared.domain.models.catalog import Batch, Limits, ModelSpec
from workers.engines.base import Work
from workers.engines.text_generation.engine import TextGeneration
from workers.engines.text_generation.forward.static import StaticRunner


def main(folder: str, way: str) -> None:
    """Load, answer once to warm up, answer."""
    asked = json.load(sys.stdin)
    spec = ModelSpec(
        name="states",
        engine="text-generation",
        path=Path(folder),
        device="cpu",
        dtype="float32",
        threads=THREADS,
        batch=Batch(max_size=len(asked), prefix_reuse=False),
        limits=Limits(max_prompt_tokens=256, max_new_tokens=256),
    )
    engine = TextGeneration(spec)
    info = engine.load()
    batching = info.details["batching"]
    if way == "static" and batching != "static":
        stacked: Any = engine._runner
        stacked.detach()
        engine._runner = StaticRunner(stacked._model, stacked._model.device)
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


if __name__ == "__main__":
    main(*sys.argv[1:])
