"""One worker process of a base and its adapter: doorbells of both come to it, one engine host serves them."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.stack import Stack
from tests.tiny_adapters import save_adapter
from tests.tiny_models import LLAMA, save_causal

CATALOGUE = """
models:
  base:
    engine: text-generation
    path: {path}
    threads: 1
    limits: {{max_prompt_tokens: 64, max_new_tokens: 32}}
  french: {{base: base, adapter: {adapter}, limits: {{max_new_tokens: 8}}}}
  bad: {{base: base, adapter: {path}}}
"""


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[Stack]:
    path = save_causal(tmp_path / "base", **LLAMA)
    adapter = save_adapter(path, tmp_path / "adapter")
    stack = Stack(tmp_path / "stack", CATALOGUE.format(path=path, adapter=adapter))
    yield stack
    stack.stop()


def test_a_worker_of_a_base_serves_its_adapters(stack: Stack) -> None:
    stack.start("api", "api")
    stack.start("rescue", "rescue")
    stack.worker("base")
    stack.ready("base", "french")

    with stack.client() as client:
        said = {
            model: client.infer(model, "The quick brown fox", params={"max_new_tokens": 8}).output
            for model in ("base", "french")
        }
        models = {model.name: model.raw for model in client.models()}

    assert said["base"] != said["french"]
    assert [models[name]["base"] for name in ("base", "french", "bad")] == [None, "base", "base"]
    assert models["french"]["workers"][0]["engine"]["adapter_rank"] == 4
    assert models["french"]["workers"][0]["engine"]["batching"] == "packed"
    hosts = {models[name]["workers"][0]["engine_pid"] for name in ("base", "french")}
    assert len(hosts) == 1
    assert models["bad"]["state"] == "failed"
    assert "has no adapter_config.json" in models["bad"]["workers"][0]["detail"]
