"""Clients that code generators make of `/openapi.json`: submit, poll, stream, cancel with each."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.clients.environments import HERE, making, node_environment, python_environment, run
from tests.integration.stack import TOKEN, Stack

CATALOGUE = "models: {echo: {engine: echo}, slow: {engine: echo, step_ms: 60000}}\n"
PROGRAMS = HERE / "programs"
SAID = "all answers were right\n"


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    stack = Stack(tmp_path_factory.mktemp("stack"), CATALOGUE)
    try:
        with making("generated"):
            stack.serve("echo", "slow")
        yield stack
    finally:
        stack.stop()


@pytest.fixture
def document(stack: Stack, tmp_path: Path) -> Path:
    path = tmp_path / "openapi.json"
    path.write_bytes(httpx.get(f"{stack.url}/openapi.json", timeout=20).content)
    return path


@pytest.mark.timeout(600)
def test_openapi_python_client(stack: Stack, document: Path, tmp_path: Path) -> None:
    """It drops an operation whose body it cannot type, with a warning and exit 0: warnings fail here."""
    python = str(python_environment())
    (tmp_path / "config.yaml").write_text("post_hooks: []\n")
    made = run(
        [
            *(python, "-m", "openapi_python_client", "generate", "--path", str(document)),
            *("--output-path", str(tmp_path / "generated"), "--meta", "none"),
            *("--config", "config.yaml", "--fail-on-warning"),
        ],
        tmp_path,
    )
    assert made.returncode == 0, made.stdout
    operations = {
        operation["operationId"]
        for item in json.loads(document.read_text())["paths"].values()
        for operation in item.values()
    }
    assert {path.stem for path in (tmp_path / "generated/api").glob("*/*.py")} >= operations

    program = str(PROGRAMS / "openapi_python_client.py")
    ran = run([python, program, stack.url, TOKEN], tmp_path, PYTHONPATH=str(tmp_path))

    assert ran.stdout == SAID


@pytest.fixture
def node(document: Path, tmp_path: Path) -> Path:
    """A folder with the packages, the document and TypeScript's settings."""
    modules = node_environment("generated") / "node_modules"
    (tmp_path / "node_modules").symlink_to(modules)
    (tmp_path / "package.json").write_text('{"type": "module"}')
    shutil.copy(PROGRAMS / "tsconfig.json", tmp_path)
    return tmp_path


def compiled_and_run(folder: Path, program: str, stack: Stack) -> str:
    """What a program prints whose types have been checked against the generated ones."""
    shutil.copy(PROGRAMS / f"{program}.ts", folder)
    checked = run(["node_modules/.bin/tsc"], folder)
    assert checked.returncode == 0, checked.stdout
    return run(["node", f"built/{program}.js", stack.url, TOKEN], folder).stdout


@pytest.mark.timeout(600)
def test_openapi_typescript_with_openapi_fetch(stack: Stack, node: Path) -> None:
    (node / "generated").mkdir()
    made = run(
        ["node_modules/.bin/openapi-typescript", "openapi.json", "-o", "generated/schema.ts"], node
    )
    assert made.returncode == 0, made.stdout

    assert compiled_and_run(node, "openapi_fetch", stack) == SAID


@pytest.mark.timeout(600)
def test_hey_api(stack: Stack, node: Path) -> None:
    shutil.copy(PROGRAMS / "openapi-ts.config.mjs", node)
    made = run(["node_modules/.bin/openapi-ts", "-f", "openapi-ts.config.mjs"], node)
    assert made.returncode == 0, made.stdout

    assert compiled_and_run(node, "hey_api", stack) == SAID
