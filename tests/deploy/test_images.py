"""The images: small where they can be, not root, probed, and made of what is in the tree."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from deploy.requirements import requirements
from tests.deploy.commands import ROOT, VARIABLES, parsed

FILE = ROOT / "deploy" / "Dockerfile"
EXTRAS = ("torch", "transformers", "accelerate", "safetensors")


def instructions() -> list[tuple[str, str]]:
    """(instruction, arguments), continued lines joined."""
    text = re.sub(r"^#.*\n", "", FILE.read_text("utf-8"), flags=re.M).replace("\\\n", " ")
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return [(name, rest) for name, _, rest in (line.partition(" ") for line in lines)]


def stages() -> dict[str, list[tuple[str, str]]]:
    """A stage's instructions by its name, those of the stages it is made from included."""
    found: dict[str, list[tuple[str, str]]] = {}
    name = ""
    for instruction, rest in instructions():
        if instruction == "FROM":
            base, _, name = rest.partition(" AS ")
            found[name] = [*found.get(base, []), (instruction, rest)]
        else:
            found[name].append((instruction, rest))
    return found


@pytest.fixture(params=["api", "worker"])
def image(request: pytest.FixtureRequest) -> list[tuple[str, str]]:
    return stages()[request.param]


def last(image: list[tuple[str, str]], instruction: str) -> str:
    return [rest for name, rest in image if name == instruction][-1]


def exec_form(text: str) -> list[str]:
    assert re.fullmatch(r'\[("[^"]*"(, )?)+\]', text), f"not exec form: {text}"
    return re.findall(r'"([^"]*)"', text)


def test_it_does_not_run_as_root(image: list[tuple[str, str]]) -> None:
    user, _, group = last(image, "USER").partition(":")
    assert int(user) > 0 and int(group) > 0  # numbers, so that runAsNonRoot can check them


def test_base_images_are_pinned() -> None:
    known = set(stages())
    for name, rest in instructions():
        if name == "FROM" and (base := rest.split()[0]) not in known:
            tag = base.partition(":")[2]
            assert re.match(r"\d+\.\d+", tag), base


def test_signals_reach_the_program_and_a_probe_is_set(image: list[tuple[str, str]]) -> None:
    assert exec_form(last(image, "ENTRYPOINT")) == ["truthgpt"]
    assert last(image, "STOPSIGNAL") == "SIGTERM"
    env = {"TRUTHGPT_MODEL": "demo-llama"}
    parsed(exec_form(last(image, "CMD")), env)
    options, _, probe = last(image, "HEALTHCHECK").partition(" CMD ")
    program, *arguments = exec_form(probe)
    assert program == "truthgpt" and "--timeout=" in options
    assert parsed(arguments, env)[0] == f"health {exec_form(last(image, 'CMD'))[0]}"


def test_what_is_copied_is_there_and_not_ignored() -> None:
    kept = {
        line[1:]
        for line in (ROOT / ".dockerignore").read_text("utf-8").splitlines()
        if line.startswith("!")
    }
    copied = set()
    for name, rest in instructions():
        if name == "COPY" and not rest.startswith("--from"):
            *sources, _ = rest.split()
            copied.update(sources)
    assert copied == kept
    assert all((ROOT / source).exists() for source in copied)


def test_the_wheel_holds_every_package() -> None:
    copied = {rest.split()[0] for name, rest in stages()["wheel"] if name == "COPY"}
    assert {"api", "cli", "client", "shared", "workers"} <= copied


def test_every_installation_is_constrained() -> None:
    for name, rest in instructions():
        for command in rest.split("&&") if name == "RUN" else ():
            words = shlex.split(command)
            if "pip" in words and "install" in words and "/dist/*.whl" not in words:
                assert words[words.index("-c") + 1] == "constraints.txt", command


def test_what_it_writes_is_outside_the_root_file_system(image: list[tuple[str, str]]) -> None:
    env = dict(
        word.split("=", 1) for name, rest in image if name == "ENV" for word in shlex.split(rest)
    )
    assert env["TRUTHGPT_STATE_DIR"] == env["HOME"] == last(image, "VOLUME")
    assert {name for name in env if name.startswith("TRUTHGPT_")} <= VARIABLES


def test_the_slim_image_has_no_engines() -> None:
    pyproject = ROOT / "pyproject.toml"
    core = " ".join(requirements("core", pyproject))
    engines = " ".join(requirements("engines", pyproject))
    for name in EXTRAS:
        assert name in engines and not re.search(rf"\b{name}\b", core)
    slim = " ".join(rest for _, rest in stages()["core-app"])
    assert "engines" not in slim


def test_its_processes_start_without_engines(tmp_path: Path) -> None:
    blocked = "".join(f"sys.modules[{name!r}] = None\n" for name in (*EXTRAS, "numpy"))
    program = (
        f"import sys\n{blocked}"
        "import api.app, api.server.worker, workers.operations.flower_app, workers.app"
        ", cli.serving.health, cli.serving.up\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        env={
            "REDIS_URL": "redis://127.0.0.1:1/0",
            "TRUTHGPT_STATE_DIR": str(tmp_path),
            "PYTHONPATH": str(ROOT),
        },
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
