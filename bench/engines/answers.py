"""What an answer of 32 vectors costs: its bytes, and the processor of the API, as numbers and as base64."""

import base64
import time
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from bench.engines import encoding
from bench.engines.driving import drive
from bench.engines.plan import Plan
from bench.engines.result import Alike, Part, Ratio, Series, common
from bench.engines.workload import sentences
from shared.domain.models.catalog import Limits, ModelSpec
from shared.domain.records import Record
from workers.engines.base import Work
from workers.engines.embedding.engine import Embedding

VECTORS = 32
ANSWERS = 200
"""In a round; one takes too short to be timed."""


def answers(plan: Plan, scratch: Path) -> Part:  # noqa: ARG001
    """The same 32 vectors, as an engine makes them and the API hands them on from a job's record."""
    spec = ModelSpec(
        name="minilm",
        engine="embedding",
        path=encoding.minilm(),
        device="cpu",
        threads=encoding.THREADS,
        limits=Limits(max_prompt_tokens=encoding.LIMIT),
    )
    engine = Embedding(spec)
    info = engine.load()
    texts = sentences(VECTORS)
    outputs: dict[str, Any] = {}
    for name in ("float", "base64"):
        driven = drive(engine, [Work("a", texts, {"encoding": name}, seed=0)], info.capacity)
        outputs[name] = driven.outputs["a"]
    documents = {name: _record(output) for name, output in outputs.items()}
    sizes = {name: [float(len(document.to_json()))] for name, document in documents.items()}
    costs: dict[str, list[float]] = {name: [] for name in documents}
    for _ in range(plan.rounds + 1):
        for name, document in documents.items():
            began = time.process_time()
            for _ in range(ANSWERS):
                document.to_json()
            spent = time.process_time() - began
            costs[name].append(spent / ANSWERS / VECTORS * 1e6)
    rows = [np.frombuffer(base64.b64decode(row), "<f4") for row in outputs["base64"]["embeddings"]]
    same = sum(
        bool(np.array_equal(row, np.float32(numbers)))
        for row, numbers in zip(rows, outputs["float"]["embeddings"], strict=True)
    )
    return Part(
        "answers",
        f"An answer of {VECTORS} vectors of {outputs['float']['dimensions']} numbers",
        series=[
            *(
                Series(name, "bytes of the job in JSON", values, 0)
                for name, values in sizes.items()
            ),
            *(
                Series(name, "µs of the API's processor a vector", v, 2)
                for name, v in costs.items()
            ),
        ],
        ratios=[
            Ratio("bytes, base64 / float", "≤ 0.3", common(sizes["base64"], sizes["float"])),
            Ratio("processor, base64 / float", "≤ 0.5", common(costs["base64"], costs["float"])),
        ],
        alike=[Alike("vectors of the same numbers", same, VECTORS)],
        settings=["Record.to_json of a finished job, whose output is stored as the engine's JSON"],
    )


def _record(output: Any) -> Record:
    """A finished job with an output, as it is read from Redis."""
    fields = {
        "id": "job_0123456789abcdef",
        "model": "minilm",
        "state": "succeeded",
        "created": "1764500000000",
        "started": "1764500000001",
        "finished": "1764500000009",
        "attempt": "1",
        "output": msgspec.json.encode(output).decode(),
    }
    return Record(fields)
