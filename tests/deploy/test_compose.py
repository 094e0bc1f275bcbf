"""docker-compose.yml starts what `truthgpt up` starts, durably, and opens nothing by default."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from cli.main import COMMANDS
from cli.processes import process_lines
from shared.catalog import load_catalog

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def services() -> dict[str, Any]:
    document = yaml.safe_load((ROOT / "docker-compose.yml").read_text("utf-8"))
    found: dict[str, Any] = document["services"]
    return found


def test_the_same_processes_as_up(services: dict[str, Any]) -> None:
    assert set(services) - {"redis"} == set(process_lines(load_catalog()))
    for name, (command, *arguments) in process_lines(load_catalog()).items():
        assert services[name]["command"][0] == command and command in COMMANDS
        assert services[name]["command"][1 : 1 + len(arguments)] == arguments


def test_redis_keeps_what_it_was_given(services: dict[str, Any]) -> None:
    command = " ".join(services["redis"]["command"])
    assert "--appendonly yes" in command and "--maxmemory-policy noeviction" in command
    assert "ports" not in services["redis"] and services["redis"]["volumes"]


def test_no_token_is_known_beforehand_and_flower_stays_on_this_machine(
    services: dict[str, Any],
) -> None:
    for name in set(services) - {"redis"}:
        token = services[name]["environment"]["TRUTHGPT_API_TOKEN"]
        assert token.startswith("${TRUTHGPT_API_TOKEN:?")
    assert services["flower"]["ports"] == ["127.0.0.1:5555:5555"]


def test_everything_has_time_to_drain(services: dict[str, Any]) -> None:
    for name, service in services.items():
        if name.startswith("worker") or name == "api":
            assert int(service["stop_grace_period"].removesuffix("s")) >= 25


def test_the_image_holds_what_the_processes_import() -> None:
    lines = (ROOT / "deploy" / "Dockerfile").read_text("utf-8").splitlines()
    copied = {line.split()[1] for line in lines if line.startswith("COPY") and "." not in line}
    assert copied == {"api", "cli", "client", "models", "shared", "workers"}
    assert any(line.startswith("USER") for line in lines)
