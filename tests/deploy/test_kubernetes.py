"""deploy/kubernetes: valid, contained, probed, with time to drain, and true to the code that it starts."""

import re
import shutil
import subprocess
from collections.abc import Iterator
from typing import Any

import kubernetes_validate
import pytest
import yaml
from pydantic import ValidationError

from api.app import create_app
from cli.processes import process_lines
from shared.catalog import load_catalog
from shared.settings import SECRETS, Settings
from shared.telemetry.catalogue import BY_NAME
from tests.deploy.commands import AFTER_DRAIN_SECONDS, ROOT, VARIABLES, drain_seconds, parsed
from tests.deploy.kustomize import Document, render

FOLDER = ROOT / "deploy" / "kubernetes"
OVERLAYS = sorted(path.name for path in (FOLDER / "overlays").iterdir())
VERSIONS = ("1.30", "1.37")
"""The oldest that knows a sleep before the end, and the newest whose schema is at hand."""
EXTENSIONS = {"keda.sh", "monitoring.coreos.com"}
OURS = set(process_lines(load_catalog()))


@pytest.fixture(scope="module", params=OVERLAYS)
def documents(request: pytest.FixtureRequest) -> list[Document]:
    return render(FOLDER / "overlays" / request.param)


@pytest.fixture(scope="module")
def production() -> list[Document]:
    return render(FOLDER / "overlays" / "production")


def of_kind(documents: list[Document], kind: str) -> dict[str, Document]:
    return {found["metadata"]["name"]: found for found in documents if found["kind"] == kind}


def workloads(documents: list[Document]) -> dict[str, Document]:
    """Pod templates by the names of what makes them."""
    made = of_kind(documents, "Deployment") | of_kind(documents, "StatefulSet")
    return {name: found["spec"]["template"] for name, found in made.items()}


def processes(
    documents: list[Document],
) -> Iterator[tuple[str, Document, Document, dict[str, str]]]:
    """Name, pod, container and environment of each of our own processes."""
    settings = of_kind(documents, "ConfigMap")["truthgpt-settings"]["data"]
    for name, template in workloads(documents).items():
        if name in OURS:
            (container,) = template["spec"]["containers"]
            env = settings | {row["name"]: row["value"] for row in container.get("env", ())}
            yield name, template["spec"], container, env


def probes(container: Document) -> dict[str, Document]:
    return {name: probe for name, probe in container.items() if name.endswith("Probe")}


def core(document: Document) -> bool:
    return document["apiVersion"].partition("/")[0] not in EXTENSIONS


def test_schemas() -> None:
    rendered = [found for name in OVERLAYS for found in render(FOLDER / "overlays" / name)]
    different = {yaml.safe_dump(found): found for found in filter(core, rendered)}
    for version in VERSIONS:
        for document in different.values():
            kubernetes_validate.validate(document, version, strict=True)


def test_the_schemas_find_faults(documents: list[Document]) -> None:
    api = of_kind(documents, "Deployment")["api"]
    wrong = api | {"spec": api["spec"] | {"replica": 1}}
    with pytest.raises(kubernetes_validate.ValidationError, match="replica"):
        kubernetes_validate.validate(wrong, VERSIONS[0], strict=True)


@pytest.mark.skipif(
    shutil.which("kubectl") is None, reason="kubectl is not installed; the renderer is not compared"
)
@pytest.mark.parametrize("overlay", OVERLAYS)
def test_kubectl_renders_the_same(overlay: str) -> None:
    folder = FOLDER / "overlays" / overlay
    command = ["kubectl", "kustomize", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    names = lambda found: (found["kind"], found["metadata"]["name"])  # noqa: E731
    theirs = sorted(yaml.safe_load_all(done.stdout), key=names)
    assert sorted(render(folder), key=names) == theirs


def test_names_are_used_once_and_live_in_one_namespace(documents: list[Document]) -> None:
    names = [(found["kind"], found["metadata"]["name"]) for found in documents]
    assert len(names) == len(set(names))
    (namespace,) = of_kind(documents, "Namespace")
    spaces = {found["metadata"].get("namespace") for found in documents} - {None}
    assert spaces == {namespace}


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


def test_the_example_of_the_secret_names_settings_and_starts_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    example = yaml.safe_load((FOLDER / "secrets.example.yaml").read_text("utf-8"))
    kubernetes_validate.validate(example, VERSIONS[0], strict=True)
    values = example["stringData"]
    assert SECRETS | {"REDIS_URL"} == set(values)
    for name in SECRETS:
        with pytest.raises(ValidationError):
            Settings(**{name: values[name]})


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
        for volume in mounted.values():
            assert volumes[volume]["emptyDir"]["sizeLimit"]


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
    routes = {rule.rule for rule in _routes()} | {"/healthcheck"}
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


def selected(selector: Document, documents: list[Document]) -> set[str]:
    """Workloads whose pods a label selector takes."""
    found = set()
    for name, template in workloads(documents).items():
        labels = template["metadata"]["labels"]
        equal = selector.get("matchLabels", {}).items() <= labels.items()
        rows = selector.get("matchExpressions", ())
        assert all(row["operator"] == "NotIn" for row in rows)
        if equal and all(labels.get(row["key"]) not in row["values"] for row in rows):
            found.add(name)
    return found


def test_services_lead_to_pods(documents: list[Document]) -> None:
    for name, service in of_kind(documents, "Service").items():
        (target,) = selected({"matchLabels": service["spec"]["selector"]}, documents)
        ports = {
            row["name"] for row in workloads(documents)[target]["spec"]["containers"][0]["ports"]
        }
        assert {row["targetPort"] for row in service["spec"]["ports"]} <= ports, name


def test_disruptions_take_one_at_a_time(documents: list[Document]) -> None:
    budgets = of_kind(documents, "PodDisruptionBudget")
    covered = [selected(found["spec"]["selector"], documents) for found in budgets.values()]
    assert sorted(map(sorted, covered)) == [[name] for name in sorted(OURS - {"flower"})]
    assert all(found["spec"]["maxUnavailable"] == 1 for found in budgets.values())


def test_who_is_scaled_states_no_number(production: list[Document]) -> None:
    deployments = of_kind(production, "Deployment")
    scaled = set()
    for kind in ("HorizontalPodAutoscaler", "ScaledObject"):
        for found in of_kind(production, kind).values():
            scaled.add(found["spec"]["scaleTargetRef"]["name"])
    assert scaled == {"api"} | {f"worker-{spec.name}" for spec in load_catalog()}
    for name, found in deployments.items():
        assert ("replicas" in found["spec"]) is (name not in scaled)
    assert deployments["rescue"]["spec"]["replicas"] >= 2


def test_workers_are_scaled_by_metrics_that_are_there(production: list[Document]) -> None:
    for name, found in of_kind(production, "ScaledObject").items():
        spec = found["spec"]
        model = name.removeprefix("worker-")
        assert 1 <= spec["minReplicaCount"] < spec["maxReplicaCount"]
        assert spec["fallback"]["replicas"] >= spec["minReplicaCount"]
        (trigger,) = spec["triggers"]
        metadata = trigger["metadata"]
        assert trigger["type"] == "prometheus"
        assert all(isinstance(value, str) for value in metadata.values())
        metrics = re.findall(r'max\((\w+)\{model="([^"]+)"\}\)', metadata["query"])
        assert metrics == [("inference_queue_depth", model), ("inference_running_jobs", model)]
        assert all(BY_NAME[metric].kind == "gauge" for metric, _ in metrics)
        assert int(metadata["threshold"]) == load_catalog().get(model).batch.max_size


def test_workers_on_cuda_have_a_device_each(production: list[Document]) -> None:
    for name, _, container, env in processes(production):
        devices = container["resources"]["limits"].get("nvidia.com/gpu", 0)
        assert devices == (1 if "TRUTHGPT_MODEL" in env else 0), name
        assert container["image"].endswith("-cuda") is (devices > 0)


def test_images_are_pinned(documents: list[Document]) -> None:
    for template in workloads(documents).values():
        for container in template["spec"]["containers"]:
            assert re.search(r":\d+\.\d+", container["image"])


def test_everything_that_shows_metrics_is_scraped_once(production: list[Document]) -> None:
    scraped: list[str] = []
    for monitor in of_kind(production, "PodMonitor").values():
        (endpoint,) = monitor["spec"]["podMetricsEndpoints"]
        for name in selected(monitor["spec"]["selector"], production):
            container = workloads(production)[name]["spec"]["containers"][0]
            assert endpoint["port"] in {row["name"] for row in container["ports"]}
            scraped.append(name)
        assert endpoint["relabelings"][0]["targetLabel"] == "job"
    assert sorted(scraped) == sorted(OURS - {"flower"})


def test_what_no_policy_names_is_refused(documents: list[Document]) -> None:
    policies = of_kind(documents, "NetworkPolicy")
    refused = policies["refuse-the-rest"]["spec"]
    assert refused["policyTypes"] == ["Ingress", "Egress"]
    assert "ingress" not in refused and "egress" not in refused
    assert selected(refused["podSelector"], documents) == set(workloads(documents))


def test_what_has_to_be_reached_is(documents: list[Document]) -> None:
    let_in: dict[str, set[int]] = {name: set() for name in workloads(documents)}
    for policy in of_kind(documents, "NetworkPolicy").values():
        for rule in policy["spec"].get("ingress", ()):
            for name in selected(policy["spec"]["podSelector"], documents):
                let_in[name] |= {row["port"] for row in rule["ports"]}
    for name, template in workloads(documents).items():
        ports = {row["containerPort"] for row in template["spec"]["containers"][0]["ports"]}
        assert let_in[name] == (set() if name == "flower" else ports), name


def _routes() -> Any:
    settings = Settings(
        REDIS_URL="redis://127.0.0.1:1/0", ENABLE_METRICS=False, ENABLE_TRACING=False
    )
    return create_app(
        settings.model_copy(update={"api_token": "a-token-for-tests-only"})
    ).url_map.iter_rules()
