"""OpenAI's clients as they are released, LangChain and the AI SDK, against the routes of OpenAI's dialect."""

import shutil
from pathlib import Path

import pytest

from tests.clients.conftest import PROGRAMS, ROOT, checks, printed
from tests.clients.environments import node_environment, python_environment, run
from tests.integration.stack import TOKEN, Stack


@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", ["openai_client.py", "openai_responses.py", "openai_batches.py"])
def test_openai_for_python_and_langchain(stack: Stack, tmp_path: Path, name: str) -> None:
    program = PROGRAMS / name

    ran = run(
        [str(python_environment("openai")), str(program), stack.url, TOKEN], tmp_path, seconds=300
    )

    assert printed(program, ran) == checks(program)


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    "name", ["openai_client.mjs", "openai_responses.mjs", "openai_batches.mjs"]
)
def test_openai_for_node_and_the_ai_sdk(stack: Stack, tmp_path: Path, name: str) -> None:
    (tmp_path / "node_modules").symlink_to(node_environment("openai") / "node_modules")
    shutil.copy(PROGRAMS / name, tmp_path)

    ran = run(["node", name, stack.url, TOKEN], tmp_path, seconds=300)

    assert printed(PROGRAMS / name, ran) == checks(PROGRAMS / name)


@pytest.mark.timeout(600)
def test_the_example_embeds_a_thousand_texts_in_a_batch(stack: Stack, tmp_path: Path) -> None:
    program = ROOT / "examples" / "batch_of_embeddings.py"

    ran = run(
        [str(python_environment("openai")), str(program), stack.url, TOKEN], tmp_path, seconds=500
    )

    assert ran.stdout.splitlines()[-1] == "1000 vectors of 384 numbers"
