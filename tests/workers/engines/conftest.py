"""Model directories made once a session. Tests that change files make their own."""

from pathlib import Path

import pytest

from tests.tiny_models import LLAMA, save_causal, save_encoder


@pytest.fixture(scope="session")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_causal(tmp_path_factory.mktemp("llama"), **LLAMA)


@pytest.fixture(scope="session")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_encoder(tmp_path_factory.mktemp("bert"), pooling="mean_tokens", normalize=True)
