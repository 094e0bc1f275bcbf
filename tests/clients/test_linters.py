"""The OpenAPI document under other people's linters, of this project's catalogue and a user's own models."""

import json
from pathlib import Path

import msgspec
import pytest
import yaml
from flask import Flask

from api.app import create_app
from api.openapi.document import cached_document
from api.services import of
from shared.domain.models.catalog_file import DEFAULT_CATALOGUE
from shared.settings import load_settings
from tests.clients.environments import node_environment, run

OWN = {"shouter": {"engine": "somebody.engine:Shouter"}, "quick": {"engine": "echo"}}


@pytest.fixture
def folder(tmp_path: Path, redis_url: str) -> Path:
    """A folder with the document, and with what the catalogue's paths name."""
    models = yaml.safe_load(DEFAULT_CATALOGUE.read_text("utf-8"))["models"]
    (tmp_path / "catalog.yaml").write_text(yaml.safe_dump({"models": {**models, **OWN}}))
    for path in DEFAULT_CATALOGUE.parent.iterdir():
        if path.is_dir():
            (tmp_path / path.name).symlink_to(path)
    settings = load_settings(
        TRUTHGPT_API_TOKEN="x" * 32,
        REDIS_URL=redis_url,
        TRUTHGPT_CONFIG=tmp_path / "catalog.yaml",
    )
    app: Flask = create_app(settings)
    try:
        document = msgspec.json.decode(cached_document(app))
    finally:
        of(app).close()
    (tmp_path / "openapi.json").write_text(json.dumps(document, indent=1))
    return tmp_path


@pytest.mark.timeout(600)
def test_redocly_finds_no_error(folder: Path) -> None:
    (folder / "redocly.yaml").write_text("extends: [recommended]\n")
    redocly = node_environment("linters") / "node_modules/.bin/redocly"

    said = run(
        [str(redocly), "lint", "--config", "redocly.yaml", "--format", "json", "openapi.json"],
        folder,
        REDOCLY_TELEMETRY="off",
        REDOCLY_SUPPRESS_UPDATE_NOTICE="true",
    )

    assert said.returncode == 0, said.stdout[-3000:]
    assert '"errors": 0' in said.stdout


@pytest.mark.timeout(600)
def test_spectral_finds_no_error(folder: Path) -> None:
    (folder / ".spectral.yaml").write_text('extends: ["spectral:oas"]\n')
    spectral = node_environment("linters") / "node_modules/.bin/spectral"

    said = run(
        [str(spectral), "lint", "openapi.json", "--ruleset", ".spectral.yaml", "--format", "json"],
        folder,
    )

    assert said.returncode == 0, said.stdout[-3000:]
    found = json.loads(said.stdout[said.stdout.index("[") : said.stdout.rindex("]") + 1])
    assert [one for one in found if one["severity"] == 0] == []
