"""deploy/kubernetes: valid for the clusters it is for, and its objects belong together."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import kubernetes_validate
import pytest
import yaml
from pydantic import ValidationError

from shared.domain.models.catalog_file import load_catalog
from shared.settings import SECRETS, Settings
from shared.telemetry.metrics.catalogue import BY_NAME
from tests.deploy.kustomize import Document, render
from tests.deploy.manifests import FOLDER, OURS, OVERLAYS, of_kind, selected, workloads

VERSIONS = ("1.30", "1.37")
"""The oldest that knows a sleep before the end, and the newest whose schema is at hand."""
EXTENSIONS = {"keda.sh", "monitoring.coreos.com"}


def core(document: Document) -> bool:
    """Whether Kubernetes itself knows this kind."""
    return document["apiVersion"].partition("/")[0] not in EXTENSIONS


def test_schemas() -> None:
    rendered = [found for name in OVERLAYS for found in render(FOLDER / "overlays" / name)]
    different = {yaml.safe_dump(found): found for found in filter(core, rendered)}
    assert different
    for version in VERSIONS:
        for document in different.values():
            assert _fault(document, version) == ""


def _fault(document: Document, version: str) -> str:
    try:
        kubernetes_validate.validate(document, version, strict=True)
    except kubernetes_validate.ValidationError as error:
        return str(error)
    return ""


def test_the_schemas_find_faults(documents: list[Document]) -> None:
    api = of_kind(documents, "Deployment")["api"]
    wrong = api | {"spec": api["spec"] | {"replica": 1}}
    assert "replica" in _fault(wrong, VERSIONS[0])


@pytest.mark.skipif(
    shutil.which("kubectl") is None, reason="kubectl is not installed; the renderer is not compared"
)
@pytest.mark.parametrize("overlay", OVERLAYS)
def test_kubectl_renders_the_same(overlay: str) -> None:
    folder = FOLDER / "overlays" / overlay
    command = ["kubectl", "kustomize", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    theirs = sorted(yaml.safe_load_all(done.stdout), key=_name)
    assert sorted(render(folder), key=_name) == theirs


def test_names_are_used_once_and_live_in_one_namespace(documents: list[Document]) -> None:
    names = [(found["kind"], found["metadata"]["name"]) for found in documents]
    assert len(names) == len(set(names))
    (namespace,) = of_kind(documents, "Namespace")
    spaces = {found["metadata"].get("namespace") for found in documents} - {None}
    assert spaces == {namespace}


def test_the_example_of_the_secret_names_settings_and_starts_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    example = yaml.safe_load((FOLDER / "secrets.example.yaml").read_text("utf-8"))
    kubernetes_validate.validate(example, VERSIONS[0], strict=True)
    values = example["stringData"]
    assert SECRETS | {"REDIS_URL", "REDIS_PASSWORD"} == set(values)
    for name in SECRETS:
        with pytest.raises(ValidationError):
            Settings(**{name: values[name]})


def test_the_trials_redis_has_a_password_out_of_the_secret() -> None:
    documents = render(FOLDER / "overlays" / "trial")
    (redis,) = workloads(documents)["redis"]["spec"]["containers"]
    assert re.fullmatch(r"redis:7\.4\.\d+-bookworm", redis["image"])
    assert redis["args"][1:3] == ["--requirepass", "$(REDIS_PASSWORD)"]
    secret = {"secretKeyRef": {"name": "truthgpt-secrets", "key": "REDIS_PASSWORD"}}
    assert {row["name"]: row["valueFrom"] for row in redis["env"]} == {
        "REDIS_PASSWORD": secret,
        "REDISCLI_AUTH": secret,
    }


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


def test_a_bucket_is_in_the_place_of_the_volume_and_can_be_reached(tmp_path: Path) -> None:
    folders = {name: os.path.relpath(FOLDER / name, tmp_path) for name in ("base", "components")}
    overlay = {"resources": [folders["base"]], "components": [folders["components"] + "/bucket"]}
    (tmp_path / "kustomization.yaml").write_text(yaml.safe_dump(overlay))
    documents = render(tmp_path)

    settings = of_kind(documents, "ConfigMap")["truthgpt-settings"]["data"]
    assert settings["FILE_STORAGE"].startswith("s3://")
    mounted = {
        name
        for name, template in workloads(documents).items()
        for volume in template["spec"]["volumes"]
        if "persistentVolumeClaim" in volume
    }
    assert mounted == set()
    bucket = of_kind(documents, "NetworkPolicy")["bucket"]
    assert selected(bucket["spec"]["podSelector"], documents) == OURS - {"flower"}
    for version in VERSIONS:
        assert _fault(bucket, version) == ""


def _name(document: Document) -> tuple[str, str]:
    return document["kind"], document["metadata"]["name"]
