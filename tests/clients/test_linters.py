"""The OpenAPI document under other people's linters, with this project's catalogue and with a user's own."""

import json
from pathlib import Path

import msgspec
import pytest
from flask import Flask

from api.app import create_app
from api.openapi.document import cached_document
from api.services import of
from shared.settings import load_settings
from tests.clients.environments import node_environment, run

OWN = 'models: {shouter: {engine: "somebody.engine:Shouter"}, quick: {engine: echo}}\n'


@pytest.fixture(params=["shipped", "own"])
def folder(request: pytest.FixtureRequest, tmp_path: Path, redis_url: str) -> Path:
    """A folder with the document of one catalogue."""
    catalogue = tmp_path / "catalog.yaml"
    catalogue.write_text(OWN)
    config = {"TRUTHGPT_CONFIG": catalogue} if request.param == "own" else {}
    settings = load_settings(TRUTHGPT_API_TOKEN="x" * 32, REDIS_URL=redis_url, **config)
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
