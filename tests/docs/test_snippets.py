"""Catalogues, requests and Python of the documents are such that the server and Python take them."""

import ast
import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from api.app import create_app
from api.openapi.document import TABLE
from shared.domain.models.catalog_file import load_catalog
from shared.domain.requests.parsing import parse_request
from shared.settings import load_settings
from tests.docs.pages import PAGES, ROOT, Block, blocks, steps
from tests.docs.test_pages import exists, name

_BODY = re.compile(r"-d '(\{.*?\})'", re.DOTALL)
_CALL = re.compile(r"curl [^|]*?(?:localhost|127\.0\.0\.1):8080(/[\w/$?=.-]*)", re.DOTALL)

SNIPPETS = [
    pytest.param(block, id=f"{name(page)}-{number}")
    for page in PAGES
    for number, block in enumerate(blocks(page.read_text("utf-8")))
]


def of_language(*languages: str) -> list[Any]:
    return [snippet for snippet in SNIPPETS if snippet.values[0].language in languages]


@pytest.mark.parametrize("block", of_language("yaml"))
def test_a_catalogue_is_one_that_the_server_takes(block: Block, tmp_path: Path) -> None:
    document = yaml.safe_load(block.text)
    if "models" not in document:
        return
    for entry in document["models"].values():
        for folder in {"path", "adapter"} & set(entry):
            (tmp_path / Path(entry[folder]).name).mkdir()
            entry[folder] = Path(entry[folder]).name
        if entry.get("python"):
            entry["python"] = sys.executable
    (tmp_path / "catalog.yaml").write_text(yaml.safe_dump(document), "utf-8")

    assert len(load_catalog(tmp_path / "catalog.yaml")) == len(document["models"])


@pytest.mark.parametrize("block", of_language("python"))
def test_python_is_python_and_what_it_imports_of_ours_exists(block: Block) -> None:
    ours = ("api", "cli", "client", "shared", "workers")
    imported = [
        f"{node.module}.{alias.name}"
        for node in ast.walk(ast.parse(block.text))
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] in ours
        for alias in node.names
    ]

    assert [found for found in imported if not exists(found)] == []


def test_requests_of_the_readme_are_such_that_the_api_takes() -> None:
    settings = load_settings(api_token="a-token-for-this-test", redis_url="redis://127.0.0.1:1/0")
    table = create_app(settings).extensions[TABLE]
    routes = {re.sub(r"\{\w+\}", "{}", operation.path) for operation in table}
    commands = [
        step.command
        for block in blocks((ROOT / "README.md").read_text("utf-8"))
        if block.language == "console"
        for step in steps(block)
    ]
    bodies = [json.loads(body) for command in commands for body in _BODY.findall(command)]
    paths = [path for command in commands for path in _CALL.findall(command)]
    assert len(bodies) == 3 and len(paths) == 5

    for body in bodies:
        assert parse_request(body, load_catalog()).spec.name == body["model"]
    assert {re.sub(r"\$\w+", "{}", path.partition("?")[0]) for path in paths} <= routes
