"""An engine on a stand-in for vLLM with the same API."""

import os
import sys
from pathlib import Path

import pytest

from shared.domain.models.catalog import Batch
from tests import fake_vllm
from tests.tiny_models import WIDE_HEADS, save_causal, text_spec
from workers.engines.registry import build
from workers.engines.vllm.adapter import Vllm


@pytest.fixture(autouse=True)
def vllm(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, module in fake_vllm.modules().items():
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setattr(os, "environ", os.environ.copy())


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_causal(tmp_path_factory.mktemp("wide"), **WIDE_HEADS)


@pytest.fixture
def engine(llama: Path) -> Vllm:
    engine = build(text_spec(llama, engine="vllm", batch=Batch(max_size=3)))
    assert isinstance(engine, Vllm)
    engine.load()
    return engine
