"""What runs in pods: contained, probed, with time to drain, and true to the code that it starts."""

import re

from api.app import create_app
from cli.serving.processes import process_lines
from shared.domain.models.catalog_file import load_catalog
from shared.settings import SECRETS, Settings
from tests.deploy.commands import AFTER_DRAIN_SECONDS, VARIABLES, drain_seconds, parsed
from tests.deploy.kustomize import Document
from tests.deploy.manifests import OURS, of_kind, probes, processes, workloads


def test_the_same_processes_as_up(documents: list[Document]) -> None:
    found = {name: (container["args"], env) for name, _, container, env in processes(documents)}
    assert set(found) == OURS
    for name, line in process_lines(load_catalog()).items():
        wanted, options = parsed(line, {})
        command, given = parsed(*found[name])
        assert command == wanted and given.get("model") == options.get("model")


def test_every_variable_is_a_setting(documents: list[Document]) -> None:
    for name, _, container, env in processes(documents):
        assert set(env) <= VARIABLES, name
        assert not set(env) & SECRETS, "a secret value stands in a manifest"
        config, secret = container["envFrom"]
        assert config == {"configMapRef": {"name": "truthgpt-settings"}}
        assert secret == {"secretRef": {"name": "truthgpt-secrets"}}  # not optional: no pod without


def test_services_do_not_become_variables(documents: list[Document]) -> None:
    for template in workloads(documents).values():
        assert template["spec"]["enableServiceLinks"] is False


def test_pods_meet_the_restricted_standard(documents: list[Document]) -> None:
    for name, template in workloads(documents).items():
        pod = template["spec"]
        assert pod["automountServiceAccountToken"] is False
        assert pod["securityContext"]["runAsNonRoot"] is True, name
        assert pod["securityContext"]["runAsUser"] > 0
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        for container in pod["containers"]:
            security = container["securityContext"]
            assert security["allowPrivilegeEscalation"] is False
            assert security["readOnlyRootFilesystem"] is True
            assert security["capabilities"] == {"drop": ["ALL"]}


def test_what_they_write_is_mounted_and_bounded(documents: list[Document]) -> None:
    for name, pod, container, _ in processes(documents):
        mounted = {row["mountPath"]: row["name"] for row in container["volumeMounts"]}
        assert {"/tmp", "/var/lib/truthgpt"} <= set(mounted), name
        volumes = {row["name"]: row for row in pod["volumes"]}
        for volume in set(mounted.values()) - {"files"}:
            assert volumes[volume]["emptyDir"]["sizeLimit"]
        if "files" in volumes:
            claim = volumes["files"]["persistentVolumeClaim"]["claimName"]
            wanted = of_kind(documents, "PersistentVolumeClaim")[claim]["spec"]
            assert wanted["resources"]["requests"]["storage"]


def test_memory_is_bounded_and_asked_for(documents: list[Document]) -> None:
    for name, template in workloads(documents).items():
        for container in template["spec"]["containers"]:
            resources = container["resources"]
            assert {"cpu", "memory"} <= set(resources["requests"]), name
            assert "memory" in resources["limits"]


def test_everything_has_time_to_drain(documents: list[Document]) -> None:
    for name, pod, container, env in processes(documents):
        before = (
            container.get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
        )
        needed = before + drain_seconds(env) + AFTER_DRAIN_SECONDS
        assert pod["terminationGracePeriodSeconds"] >= needed, name
    api = of_kind(documents, "Deployment")["api"]["spec"]["template"]["spec"]["containers"][0]
    assert api["lifecycle"]["preStop"]["sleep"]["seconds"] > 0


def test_probes_ask_what_the_process_answers(documents: list[Document]) -> None:
    routes = _routes() | {"/healthcheck"}
    for name, _, container, env in processes(documents):
        ports = {row["name"] for row in container["ports"]}
        found = probes(container)
        assert "livenessProbe" in found, name
        for probe in found.values():
            if "httpGet" in probe:
                assert probe["httpGet"]["path"] in routes and probe["httpGet"]["port"] in ports
            else:
                program, *arguments = probe["exec"]["command"]
                assert program == "truthgpt"
                kind, options = parsed(arguments, env)
                assert kind == f"health {container['args'][0]}"
                assert options.get("model") == env.get("TRUTHGPT_MODEL")
                # A probe that is cut off counts as failed: the command itself takes some seconds at worst.
                assert probe["timeoutSeconds"] >= 10


def test_a_loaded_model_is_waited_for_and_kept(documents: list[Document]) -> None:
    for name, _, container, env in processes(documents):
        if "TRUTHGPT_MODEL" in env:
            found = {
                kind: parsed(p["exec"]["command"][1:], env)[1]
                for kind, p in probes(container).items()
            }
            assert found["readinessProbe"]["serving"], name
            assert not found["livenessProbe"]["serving"] and not found["startupProbe"]["serving"]


def test_ports_are_those_that_are_listened_on(documents: list[Document]) -> None:
    for name, _, container, env in processes(documents):
        ports = {row["containerPort"] for row in container["ports"]}
        options = parsed(container["args"], env)[1]
        wanted = options["port"] if "port" in options else int(env["METRICS_PORT"])
        assert ports == {wanted}, name
        assert options.get("host", env["METRICS_HOST"]) == "0.0.0.0"


def test_workers_on_cuda_have_a_device_each(production: list[Document]) -> None:
    for name, _, container, env in processes(production):
        devices = container["resources"]["limits"].get("nvidia.com/gpu", 0)
        assert devices == (1 if "TRUTHGPT_MODEL" in env else 0), name
        assert container["image"].endswith("-cuda") is (devices > 0)


def test_images_are_pinned(documents: list[Document]) -> None:
    for template in workloads(documents).values():
        for container in template["spec"]["containers"]:
            assert re.search(r":\d+\.\d+", container["image"])


def _routes() -> set[str]:
    settings = Settings(
        REDIS_URL="redis://127.0.0.1:1/0",
        TRUTHGPT_API_TOKEN="a-token-for-tests-only",
        ENABLE_METRICS=False,
        ENABLE_TRACING=False,
    )
    return {rule.rule for rule in create_app(settings).url_map.iter_rules()}
