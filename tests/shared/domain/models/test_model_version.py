"""A model's fingerprint changes with every file that may have been read."""

import os
from pathlib import Path

import pytest

from shared.domain.models.catalog import ModelSpec
from shared.domain.models.model_version import fingerprint


@pytest.fixture
def spec(tmp_path: Path) -> ModelSpec:
    for name in ("config.json", "1_Pooling/config.json", "0_Transformer/onnx/model.safetensors"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("{}")
    return ModelSpec(name="m", engine="embedding", path=tmp_path)


def path_of(spec: ModelSpec) -> Path:
    assert spec.path is not None
    return spec.path


@pytest.mark.parametrize(
    "name", ["config.json", "1_Pooling/config.json", "0_Transformer/onnx/model.safetensors"]
)
def test_a_change_in_any_folder_is_seen(spec: ModelSpec, name: str) -> None:
    before = fingerprint(spec)
    assert fingerprint(spec) == before

    (path_of(spec) / name).write_text('{"pooling_mode_cls_token": true}')

    assert fingerprint(spec) != before


def test_a_file_of_equal_size_and_time_is_another_one(spec: ModelSpec) -> None:
    file = path_of(spec) / "1_Pooling/config.json"
    before, seen = fingerprint(spec), file.stat()

    other = file.with_suffix(".new")
    other.write_text("[]")
    os.utime(other, ns=(seen.st_atime_ns, seen.st_mtime_ns))
    other.rename(file)

    assert file.stat().st_mtime_ns == seen.st_mtime_ns
    assert fingerprint(spec) != before


def test_a_new_file_and_one_that_goes_are_seen(spec: ModelSpec) -> None:
    before = fingerprint(spec)
    added = path_of(spec) / "2_Normalize" / "config.json"
    added.parent.mkdir()
    added.write_text("{}")
    assert fingerprint(spec) != before

    added.unlink()
    assert fingerprint(spec) == before


def test_links_that_lead_in_circles_end(spec: ModelSpec) -> None:
    (path_of(spec) / "loop").symlink_to(path_of(spec), target_is_directory=True)

    assert fingerprint(spec) == fingerprint(spec)


def test_a_linked_file_counts_as_what_it_leads_to(spec: ModelSpec, tmp_path: Path) -> None:
    """As a snapshot in the hub's cache is laid out."""
    blob = tmp_path / "0_Transformer" / "blob"
    blob.write_text("one")
    (path_of(spec) / "linked.json").symlink_to(blob)
    before = fingerprint(spec)

    blob.write_text("another")

    assert fingerprint(spec) != before


def test_an_adapter_and_its_files_are_part_of_its_models_version(
    spec: ModelSpec, tmp_path: Path
) -> None:
    versions = [fingerprint(spec)]
    for name in ("a", "b"):
        folder = tmp_path.parent / f"{tmp_path.name}-{name}"
        folder.mkdir()
        (folder / "adapter_model.safetensors").write_text("1")
        adapted = spec.model_copy(update={"adapter": folder})
        versions.append(fingerprint(adapted))
    (folder / "adapter_model.safetensors").write_text("22")
    versions.append(fingerprint(adapted))

    assert len(set(versions)) == 4
