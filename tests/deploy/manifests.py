"""Reading rendered manifests: what they start, with which environment, and what selectors take."""

from collections.abc import Iterator

from cli.serving.processes import process_lines
from shared.domain.models.catalog_file import load_catalog
from tests.deploy.commands import ROOT
from tests.deploy.kustomize import Document

FOLDER = ROOT / "deploy" / "kubernetes"
OVERLAYS = sorted(path.name for path in (FOLDER / "overlays").iterdir())
OURS = set(process_lines(load_catalog()))


def of_kind(documents: list[Document], kind: str) -> dict[str, Document]:
    """Documents of a kind by their names."""
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
    """A container's probes by their names."""
    return {name: probe for name, probe in container.items() if name.endswith("Probe")}


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
