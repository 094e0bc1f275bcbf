import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from shared.domain.errors import ConfigError
from shared.domain.models.catalog import BUILT_IN_ENGINES, ModelSpec
from workers.engines.echo import Echo
from workers.engines.registry import BUILT_IN, build


class NoEngine:
    """Has a step and nothing else."""

    def step(self) -> None: ...


class Mine(Echo):
    """A user's own engine."""


def spec(engine: str, **options: Any) -> ModelSpec:
    return ModelSpec(name="m", engine=engine, **options)


def test_the_catalogue_and_the_registry_know_the_same_names() -> None:
    assert set(BUILT_IN) == BUILT_IN_ENGINES


def test_an_engine_is_built_by_its_name(tmp_path: Path) -> None:
    assert type(build(spec("echo"))) is Echo
    for name in ("text-generation", "embedding", "vllm"):
        assert build(spec(name, path=tmp_path)).pending() == 0


def test_an_engine_is_built_by_its_class() -> None:
    assert type(build(spec(f"{__name__}:Mine"))) is Mine


@pytest.mark.parametrize(
    ("engine", "complaint"),
    [
        (
            "nonsense",
            "neither echo, embedding, pipeline, ranking, text-generation, vllm nor package.module:Class",
        ),
        ("package:", "nor package.module:Class"),
        ("no_such_package.module:Class", "cannot import no_such_package.module"),
        (f"{__name__}:Missing", "has no class 'Missing'"),
        (f"{__name__}:spec", "has no class 'spec'"),
        (f"{__name__}:NoEngine", "lacks load, admit, cancel, pending, batch_delay"),
    ],
)
def test_what_cannot_be_had_is_named(engine: str, complaint: str) -> None:
    with pytest.raises(ConfigError, match=r"models\.m\.engine") as error:
        build(spec(engine))

    assert complaint in error.value.detail


def test_torch_is_not_imported_before_a_model_needs_it() -> None:
    code = (
        "import sys; from shared.domain.models.catalog import ModelSpec;"
        "from workers.engines.registry import build;"
        "build(ModelSpec(name='m', engine='echo')).load();"
        "sys.exit(any(m in sys.modules for m in ('torch', 'transformers')))"
    )

    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
