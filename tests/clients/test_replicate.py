"""Replicate's clients as they are released, eventsource, webhooks, llm: against a real server."""

import json
import re
import shutil
from pathlib import Path

import pytest

from tests.clients.conftest import PROGRAMS, checks, printed
from tests.clients.counting import CountingProxy
from tests.clients.environments import node_environment, python_environment, run
from tests.docs.pages import ROOT
from tests.integration.stack import TOKEN, Stack
from tests.receivers import SECRET

PAGE = (ROOT / "docs" / "replicate.md").read_text("utf-8")
ROW = re.compile(r"^\| .* \| (`[a-z_]+(?:\.[a-z]+)+`: .*) \|$", re.MULTILINE)
LLM = """
- model_id: demo
  model_name: demo-llama
  api_base: {url}/v1
  api_key_name: ours
- model_id: demo-text
  model_name: demo-llama
  api_base: {url}/v1
  api_key_name: ours
  completion: true
"""


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("program", "further"),
    [("replicate_client.py", ()), ("webhooks_client.py", (SECRET,))],
)
def test_python_clients(
    stack: Stack, tmp_path: Path, program: str, further: tuple[str, ...]
) -> None:
    python = str(python_environment())

    command = [python, str(PROGRAMS / program), stack.url, TOKEN, *further]
    ran = run(command, tmp_path, seconds=300)

    assert printed(PROGRAMS / program, ran) == checks(PROGRAMS / program)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("program", ["replicate_client.mjs", "eventsource_client.mjs"])
def test_node_clients(stack: Stack, tmp_path: Path, program: str) -> None:
    (tmp_path / "node_modules").symlink_to(node_environment("replicate") / "node_modules")
    shutil.copy(PROGRAMS / program, tmp_path)

    ran = run(["node", program, stack.url, TOKEN], tmp_path, seconds=300)

    assert printed(PROGRAMS / program, ran) == checks(PROGRAMS / program)


@pytest.mark.timeout(600)
def test_llm(counted: CountingProxy, tmp_path: Path) -> None:
    """Simon Willison's command, which knows this server from a file of its own."""
    python = python_environment()
    (tmp_path / "extra-openai-models.yaml").write_text(LLM.format(url=counted.url))

    def llm(*arguments: str, status: int = 0) -> str:
        command = [str(python), "-m", "llm", *arguments]
        done = run(command, tmp_path, LLM_USER_PATH=str(tmp_path), OURS_KEY=TOKEN)
        assert done.returncode == status, done.stdout
        return done.stdout.strip()

    def asked(model: str, *arguments: str) -> str:
        short = ("-o", "max_tokens", "12", "-o", "temperature", "0")
        return llm("-m", model, *short, "--key", TOKEN, *arguments, "The function returns")

    said = asked("demo", "--no-stream")
    assert said
    assert asked("demo", "-s", "Answer in one word.") != said
    completed = asked("demo-text")
    logged = json.loads(llm("logs", "-n", "3", "--json"))
    assert {said, completed} <= {one["response"].strip() for one in logged}
    too_many = llm("-m", "demo", "--key", TOKEN, "-o", "max_tokens", "100000", "x", status=1)
    assert "max_new_tokens" in too_many
    before = counted.posts.total()
    for how in (("--no-stream",), ()):
        llm("-m", "demo", "--key", TOKEN, *how, "Fail \x07", status=1)
    assert counted.posts.total() == before + 2, "a job that fails for good is posted once"


def test_every_rule_that_the_page_lists_has_a_check() -> None:
    """The table in docs/replicate.md names checks of these programs; there are enough of them."""
    programs = {path.name: set(checks(path)) for path in PROGRAMS.glob("*_client.*")}
    rows = ROW.findall(PAGE)

    assert len(rows) >= 15
    for row in rows:
        for one in row.split("; "):
            program, _, name = one.partition(": ")
            assert name in programs[program.strip("`")], one


def test_there_are_checks_enough_of_all_clients() -> None:
    programs = [path for path in PROGRAMS.iterdir() if path.suffix in (".py", ".mjs")]

    assert sum(len(checks(program)) for program in programs) >= 200
