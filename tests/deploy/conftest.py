"""The overlays of deploy/kubernetes as they are applied."""

import pytest

from tests.deploy.kustomize import Document, render
from tests.deploy.manifests import FOLDER, OVERLAYS


@pytest.fixture(scope="session", params=OVERLAYS)
def documents(request: pytest.FixtureRequest) -> list[Document]:
    return render(FOLDER / "overlays" / request.param)


@pytest.fixture(scope="session")
def production() -> list[Document]:
    return render(FOLDER / "overlays" / "production")
