"""docker-compose.yml starts what `truthgpt up` starts, durably, and opens nothing by default."""

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from cli.serving.processes import process_lines
from shared.domain.models.catalog_file import load_catalog
from shared.embedded_redis.binaries import Server, unfit
from tests.deploy.commands import AFTER_DRAIN_SECONDS, ROOT, VARIABLES, drain_seconds, parsed
from tests.deploy.schemas import complaints

FILE = ROOT / "docker-compose.yml"
CUDA = ROOT / "deploy" / "compose.cuda.yml"
OURS = set(process_lines(load_catalog()))


def filled(text: str) -> str:
    """A value with Compose's defaults put in."""
    while match := re.search(r"\$\{(\w+)(?::[-?]((?:[^{}$]|\$(?!\{))*))?\}", text):
        text = text.replace(match[0], f"<{match[1]}>" if match[2] is None else match[2])
    return text


def seconds(duration: str) -> float:
    match = re.fullmatch(r"(\d+)s", filled(duration))
    assert match, duration
    return float(match[1])


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(FILE.read_text("utf-8"))
    return found


@pytest.fixture(scope="module")
def services(document: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = document["services"]
    return found


def environment(service: dict[str, Any]) -> dict[str, str]:
    return {name: filled(str(value)) for name, value in service.get("environment", {}).items()}


@pytest.mark.parametrize("file", [FILE, CUDA])
def test_the_schema(file: Path) -> None:
    assert complaints("compose-spec", file) == ""


def test_the_schema_finds_faults(tmp_path: Path) -> None:
    wrong = tmp_path / "compose.yml"
    wrong.write_text("services: {api: {image: a, comand: [api]}}")
    assert "comand" in complaints("compose-spec", wrong)


def test_the_same_processes_as_up(services: dict[str, Any]) -> None:
    assert set(services) >= OURS
    for name, line in process_lines(load_catalog()).items():
        service = services[name]
        wanted, options = parsed(line, {})
        given, found = parsed(service["command"], environment(service))
        assert given == wanted and found.get("model") == options.get("model")


def test_the_cuda_file_changes_workers_alone() -> None:
    changed = yaml.safe_load(CUDA.read_text("utf-8"))["services"]
    assert set(changed) == {f"worker-{spec.name}" for spec in load_catalog()}


def test_every_variable_is_a_setting(services: dict[str, Any]) -> None:
    for name in OURS:
        assert set(services[name]["environment"]) <= VARIABLES


def test_the_example_names_settings_and_what_compose_asks_for() -> None:
    text = (ROOT / "deploy" / "env.example").read_text("utf-8")
    asked = set(re.findall(r"\$\{(\w+)", FILE.read_text("utf-8")))
    assert set(re.findall(r"^#?([A-Z_]+)=", text, flags=re.M)) <= VARIABLES | asked


def test_probes_are_commands_that_exist(services: dict[str, Any]) -> None:
    for name in OURS:
        kind, program, *arguments = services[name]["healthcheck"]["test"]
        assert (kind, program) == ("CMD", "truthgpt")
        command, options = parsed(arguments, environment(services[name]))
        served, given = parsed(services[name]["command"], environment(services[name]))
        assert command == f"health {served}"
        assert options.get("port") == given.get("port")
        assert options.get("model") == given.get("model")


def test_everything_has_time_to_drain(services: dict[str, Any]) -> None:
    for name in OURS:
        grace = seconds(services[name]["stop_grace_period"])
        assert grace >= drain_seconds(environment(services[name])) + AFTER_DRAIN_SECONDS


def test_redis_keeps_what_it_was_given(services: dict[str, Any]) -> None:
    command = filled(" ".join(services["redis"]["command"]))
    for option in (
        "appendonly yes",
        "appendfsync everysec",
        "maxmemory-policy noeviction",
        "hash-max-listpack-value 1024",
    ):
        assert f"--{option}" in command
    assert re.search(r"--maxmemory \d+", command)
    assert services["redis"]["volumes"] == ["redis-data:/data"]


def test_redis_is_a_fixed_release_and_has_a_password_that_nobody_knows_beforehand(
    services: dict[str, Any],
) -> None:
    version = re.fullmatch(r"redis:(\d+\.\d+\.\d+)-bookworm", services["redis"]["image"])
    assert version is not None
    assert unfit(Server("redis", tuple(map(int, version[1].split("."))))) is None
    command = services["redis"]["command"]
    password = command[command.index("--requirepass") + 1]
    assert password.startswith("${REDIS_PASSWORD:?")
    assert services["redis"]["environment"]["REDISCLI_AUTH"] == password
    for name in OURS:
        assert f":{password}@redis:6379" in services[name]["environment"]["REDIS_URL"]


def test_only_ours_reach_redis(document: dict[str, Any], services: dict[str, Any]) -> None:
    assert document["networks"]["backend"]["internal"] is True
    assert services["redis"]["networks"] == ["backend"]
    inside = {
        name for name, service in services.items() if "backend" in service.get("networks", ())
    }
    assert inside == OURS | {"redis"}
    assert all(
        services[name]["depends_on"]["redis"]["condition"] == "service_healthy" for name in OURS
    )


def test_no_token_is_known_beforehand_and_nothing_is_open_to_other_machines(
    services: dict[str, Any],
) -> None:
    for name in OURS:
        token = services[name]["environment"]["TRUTHGPT_API_TOKEN"]
        assert token.startswith("${TRUTHGPT_API_TOKEN:?")
    for service in services.values():
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", ()))
    assert "ports" not in services["redis"]


@pytest.mark.parametrize(("password", "starts"), [("", False), ("of-its-own", True)])
def test_grafana_has_a_password_of_its_own(
    services: dict[str, Any], tmp_path: Path, password: str, starts: bool
) -> None:
    grafana = services["grafana"]
    assert "TRUTHGPT_API_TOKEN" not in yaml.safe_dump(grafana)
    assert grafana["environment"]["GF_SECURITY_ADMIN_PASSWORD"] == "${GRAFANA_PASSWORD:-}"
    program = tmp_path / "run.sh"
    program.write_text("#!/bin/sh\necho Grafana runs\n")
    program.chmod(0o755)
    script = grafana["entrypoint"][2].replace("$$", "$").replace("/run.sh", str(program))
    ran = subprocess.run(
        [*grafana["entrypoint"][:2], script],
        env={"GF_SECURITY_ADMIN_PASSWORD": password},
        capture_output=True,
        text=True,
        timeout=10,
    )
    assert (ran.returncode == 0, ran.stdout) == (starts, "Grafana runs\n" if starts else "")
    assert starts or "GRAFANA_PASSWORD: not set" in ran.stderr


def test_containers_are_contained(services: dict[str, Any]) -> None:
    for name, service in services.items():
        assert service["restart"] == "unless-stopped"
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert service["logging"]["options"]["max-size"]
        # Compose copies a secret from the environment into the container, which a read-only one refuses.
        assert service["read_only"] is not bool(service.get("secrets")), name


def test_what_they_write_is_mounted(services: dict[str, Any]) -> None:
    for name in OURS:
        paths = {mount.partition(":")[0]: mount for mount in services[name]["tmpfs"]}
        assert set(paths) == {"/tmp", "/var/lib/truthgpt"}
        assert all("size=" in mount for mount in paths.values())
        assert "uid=10001" in paths["/var/lib/truthgpt"]


def test_images_of_others_are_pinned(services: dict[str, Any]) -> None:
    for name in set(services) - OURS:
        tag = services[name]["image"].partition(":")[2]
        assert re.match(r"v?\d+\.\d+", tag), name


def test_heavy_ones_start_when_asked_for(services: dict[str, Any]) -> None:
    for name in set(services) - OURS - {"redis"}:
        assert services[name]["profiles"] == ["observability"]


def test_what_is_mounted_is_there(services: dict[str, Any]) -> None:
    sources = {
        mount.split(":")[0]
        for service in services.values()
        for mount in service.get("volumes", ())
        if mount.startswith(".")
    }
    assert {"./deploy/prometheus", "./deploy/otel/collector.yaml"} <= sources
    assert [source for source in sorted(sources) if not (ROOT / source).exists()] == []


def test_prometheus_finds_workers_where_they_show_their_metrics(services: dict[str, Any]) -> None:
    config = yaml.safe_load((ROOT / "deploy/prometheus/prometheus.yml").read_text("utf-8"))
    scraped = {
        name: found["port"]
        for job in config["scrape_configs"]
        for found in job["dns_sd_configs"]
        for name in found["names"]
    }
    assert set(scraped) == OURS - {"flower"}
    for name, where in scraped.items():
        shown = environment(services[name])
        port = 8080 if name == "api" else int(shown["METRICS_PORT"])
        assert where == port and shown["METRICS_HOST"] == "0.0.0.0"


def test_the_collector_passes_on_what_it_takes(services: dict[str, Any]) -> None:
    config = yaml.safe_load((ROOT / "deploy/otel/collector.yaml").read_text("utf-8"))
    traces = config["service"]["pipelines"]["traces"]
    for part in ("receivers", "processors", "exporters"):
        assert set(traces[part]) == set(config[part])
    assert config["exporters"]["otlp/jaeger"]["endpoint"].split(":")[0] in services
    port = config["receivers"]["otlp"]["protocols"]["grpc"]["endpoint"].rpartition(":")[2]
    for name in OURS:
        assert environment(services[name])["OTLP_ENDPOINT"] == f"http://otel-collector:{port}"
