import os
import runpy
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from honcho.environ import parse_procfile

from cli.main import main
from cli.serving.processes import process_lines
from shared import broker
from shared.domain.models.catalog import Catalog, ModelSpec
from shared.domain.models.catalog_file import DEFAULT_CATALOGUE
from shared.surroundings import foreign, services
from tests.foreign import SURROUNDINGS

ROOT = Path(__file__).resolve().parents[3]


class Became(BaseException):
    """What the process was asked to become."""

    def __init__(self, argv: list[str]) -> None:
        self.argv = argv


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    catalogue = tmp_path / "catalog.yaml"
    catalogue.write_text("models: {echo: {engine: echo}}")
    for name in ("FLOWER_PORT", "FLOWER_ADDRESS", "PORT", "HOST"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("REDIS_URL", "redis://127.0.0.1:1/0")
    monkeypatch.setenv("TRUTHGPT_CONFIG", str(catalogue))
    monkeypatch.setenv("TRUTHGPT_STATE_DIR", str(tmp_path))
    monkeypatch.setenv("TRUTHGPT_API_TOKEN", "a-token-for-tests-only")
    return tmp_path


def become(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> tuple[list[str], dict[str, str]]:
    """The command line that a command turns into, and its environment."""
    before = dict(os.environ)

    def execv(path: str, argv: list[str]) -> None:
        assert (path, argv[1]) == (sys.executable, "-m")
        raise Became(argv[2:])

    def run_module(module: str, run_name: str, alter_sys: bool) -> None:
        assert run_name == "__main__" and alter_sys
        raise Became([module, *sys.argv[1:]])

    monkeypatch.setattr(os, "execv", execv)
    monkeypatch.setattr(runpy, "run_module", run_module)
    monkeypatch.setattr(os, "nice", lambda increment: increment)
    monkeypatch.setattr(sys, "argv", ["cli", *arguments])
    try:
        with pytest.raises(Became) as caught:
            main(list(arguments), standalone_mode=False)
        return caught.value.argv, dict(os.environ)
    finally:
        os.environ.clear()
        os.environ.update(before)


def test_the_procfile_names_what_up_starts_for_the_default_catalogue() -> None:
    models = yaml_models()
    catalog = Catalog({name: ModelSpec(name=name, engine="echo") for name in models})
    expected = {
        name: " ".join(("python -m cli", *line)) for name, line in process_lines(catalog).items()
    }
    procfile = parse_procfile((ROOT / "Procfile").read_text("utf-8"))
    assert dict(procfile.processes) == expected


def yaml_models() -> list[str]:
    import yaml

    return list(yaml.safe_load(DEFAULT_CATALOGUE.read_text("utf-8"))["models"])


def test_flower_is_left_out_on_request() -> None:
    catalog = Catalog({"echo": ModelSpec(name="echo", engine="echo")})
    assert list(process_lines(catalog, flower=False)) == ["api", "worker-echo", "rescue", "batches"]


def test_api_becomes_gunicorn(settings: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    argv, env = become(monkeypatch, "api", "--port", "9000")
    assert argv == ["gunicorn", "api.wsgi:app", "-c", "python:api.server.gunicorn_conf"]
    assert (env["HOST"], env["PORT"]) == ("127.0.0.1", "9000")


@pytest.mark.parametrize(
    ("command", "name"),
    [
        ("api", "PORT"),
        ("api", "WEB_CONCURRENCY"),
        ("flower", "FLOWER_PORT"),
        ("up", "PORT"),
        ("up", "FLOWER_PORT"),
        ("up", "WEB_CONCURRENCY"),
    ],
)
def test_a_wrong_value_of_the_environment_is_refused_by_name(
    settings: Path, monkeypatch: pytest.MonkeyPatch, command: str, name: str
) -> None:
    monkeypatch.setenv(name, "eighty")
    result = CliRunner().invoke(main, [command])
    assert result.exit_code != 0
    assert name in result.output and "eighty" in result.output


@pytest.mark.parametrize(
    "command", [["api"], ["worker", "--model", "echo"], ["rescue"], ["batches"], ["flower"]]
)
def test_a_process_starts_without_what_other_programs_have_set(
    settings: Path,
    monkeypatch: pytest.MonkeyPatch,
    command: list[str],
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name, value in SURROUNDINGS.items():
        monkeypatch.setenv(name, value)
    _, env = become(monkeypatch, *command)
    assert foreign(env) == [] and services(env) == []
    assert "GUNICORN_CMD_ARGS" in capsys.readouterr().err


def test_worker_becomes_the_celery_worker_of_its_model(
    settings: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    argv, env = become(monkeypatch, "worker", "--model", "echo")
    assert argv[0] == "workers" and argv[1].startswith("echo-")
    assert argv[2:] == ["1", broker.queue_name("echo")]
    assert env["TRUTHGPT_MODEL"] == "echo"


def test_rescue_listens_to_rescue_and_deliveries(
    settings: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRUTHGPT_MODEL", "echo")
    argv, env = become(monkeypatch, "rescue")
    assert argv[0] == "workers" and argv[1].startswith("rescue-")
    assert argv[3:] == [broker.RESCUE_QUEUE, broker.DELIVERY_QUEUE]
    assert env["TRUTHGPT_ROLE"] == "rescue"
    assert "TRUTHGPT_MODEL" not in env


def test_flower_never_shows_its_password_on_its_command_line(
    settings: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    argv, _ = become(monkeypatch, "flower")
    assert argv == ["workers.operations.flower_app", "127.0.0.1", "5555"]


@pytest.mark.parametrize(
    "command", [["worker", "--model", "echo"], ["rescue"], ["batches"], ["flower"]]
)
def test_single_processes_need_a_redis(
    settings: Path, monkeypatch: pytest.MonkeyPatch, command: list[str]
) -> None:
    monkeypatch.delenv("REDIS_URL")
    result = CliRunner().invoke(main, command)
    assert result.exit_code == 1
    assert "REDIS_URL: not set" in result.output


def test_a_worker_of_an_unknown_model_says_which_there_are(settings: Path) -> None:
    result = CliRunner().invoke(main, ["worker", "--model", "gpt"])
    assert result.exit_code == 1
    assert result.output == "Error: There is no model 'gpt'. Models here: echo.\n"
