"""What `kubectl kustomize` makes of a folder, as far as the files in deploy/kubernetes ask for it.

Knows resources, components, JSON patches, images and the namespace; refuses anything else. A test holds it
against the real one wherever kubectl is installed.
"""

import re
from copy import deepcopy
from pathlib import Path
from typing import Any

import yaml

Document = dict[str, Any]
KNOWN = {"apiVersion", "kind", "namespace", "resources", "components", "patches", "images"}
CLUSTER_WIDE = {"Namespace"}


def render(folder: Path) -> list[Document]:
    """The documents of a kustomization. Raises `ValueError` for what this does not know."""
    return _applied(folder, [])


def _applied(folder: Path, given: list[Document]) -> list[Document]:
    kustomization = yaml.safe_load((folder / "kustomization.yaml").read_text("utf-8"))
    if unknown := set(kustomization) - KNOWN:
        raise ValueError(f"{folder}: {unknown}")
    found = deepcopy(given)
    for name in kustomization.get("resources", ()):
        path = folder / name
        found += render(path) if path.is_dir() else _documents(path)
    for name in kustomization.get("components", ()):
        found = _applied(folder / name, found)
    for patch in kustomization.get("patches", ()):
        _patch(found, patch)
    for image in kustomization.get("images", ()):
        _set_image(found, image)
    if namespace := kustomization.get("namespace"):
        for document in found:
            if document["kind"] not in CLUSTER_WIDE:
                document["metadata"]["namespace"] = namespace
    return found


def _documents(path: Path) -> list[Document]:
    return list(yaml.safe_load_all(path.read_text("utf-8")))


def _patch(documents: list[Document], patch: Document) -> None:
    target = patch["target"]
    hit = [
        document
        for document in documents
        if document["kind"] == target["kind"]
        and re.fullmatch(target["name"], document["metadata"]["name"])
    ]
    if not hit:
        raise ValueError(f"nothing is patched by {patch}")
    for document in hit:
        for operation in yaml.safe_load(patch["patch"]):
            _operate(document, operation)


def _operate(document: Document, operation: Document) -> None:
    *path, last = (
        part.replace("~1", "/").replace("~0", "~") for part in operation["path"].split("/")[1:]
    )
    place: Any = document
    for part in path:
        place = place[int(part) if isinstance(place, list) else part]
    key: Any = last
    there = last in place
    if isinstance(place, list):
        key, there = int(last), int(last) < len(place)
        if operation["op"] == "add":
            raise ValueError(f"{operation['path']} is in a list, into which nothing is added")
    if operation["op"] in ("remove", "replace") and not there:
        raise ValueError(f"there is no {operation['path']}")
    if operation["op"] == "remove":
        del place[key]
    elif operation["op"] in ("add", "replace"):
        place[key] = deepcopy(operation["value"])
    else:
        raise ValueError(str(operation))


def _set_image(documents: list[Document], image: Document) -> None:
    for document in documents:
        pod = document.get("spec", {}).get("template", {}).get("spec", {})
        for container in pod.get("containers", ()):
            name, _, tag = container["image"].partition(":")
            if name == image["name"]:
                tag = image.get("newTag", tag)
                container["image"] = f"{image.get('newName', name)}:{tag}"
