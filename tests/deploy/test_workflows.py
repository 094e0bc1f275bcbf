"""The workflows: valid, bounded, with no more rights than they need, running what the Makefile has."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.deploy.commands import ROOT
from tests.deploy.schemas import complaints

FOLDER = ROOT / ".github" / "workflows"
FILES = sorted(FOLDER.glob("*.yml"))


class Yaml12(yaml.SafeLoader):
    """`on` is a name, not a truth value."""


Yaml12.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in found if tag != "tag:yaml.org,2002:bool"]
    for first, found in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
Yaml12.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile(r"^(true|false)$"), list("tf"))


def read(file: Path) -> dict[str, Any]:
    found: dict[str, Any] = yaml.load(file.read_text("utf-8"), Loader=Yaml12)
    return found


def steps(workflow: dict[str, Any]) -> list[dict[str, Any]]:
    return [step for job in workflow["jobs"].values() for step in job.get("steps", ())]


@pytest.fixture(params=FILES, ids=lambda file: file.stem)
def workflow(request: pytest.FixtureRequest) -> dict[str, Any]:
    return read(request.param)


def test_the_schema() -> None:
    assert {file.stem for file in FILES} == {"ci", "image", "release", "nightly"}
    assert complaints("github-workflows", *FILES) == ""


def test_the_schema_finds_faults(tmp_path: Path) -> None:
    wrong = tmp_path / "ci.yml"
    wrong.write_text("on: push\njobs: {a: {runs-on: x, stepz: [{run: ls}]}}")
    assert "stepz" in complaints("github-workflows", wrong)


def test_rights_are_given_job_by_job(workflow: dict[str, Any]) -> None:
    assert workflow["permissions"] == {"contents": "read"}
    for job in workflow["jobs"].values():
        if any(right == "write" for right in job.get("permissions", {}).values()):
            assert workflow["name"] == "release"


def test_runs_are_bounded_and_do_not_pile_up(workflow: dict[str, Any]) -> None:
    assert workflow["concurrency"]["group"]
    for job in workflow["jobs"].values():
        most = 350 if workflow["name"] == "nightly" else 60
        assert job["timeout-minutes"] <= most if "steps" in job else job["uses"].startswith("./")


def test_actions_have_a_version_and_leave_no_credentials(workflow: dict[str, Any]) -> None:
    for step in steps(workflow):
        if "uses" in step:
            assert re.fullmatch(r"[\w-]+/[\w-]+@v\d+", step["uses"])
            if step["uses"].startswith("actions/checkout@"):
                assert step["with"]["persist-credentials"] is False


def test_commands_name_what_is_there(workflow: dict[str, Any]) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text("utf-8"), flags=re.M))
    for step in steps(workflow):
        words = step.get("run", "").split()
        if ".ci/run" in words:
            assert set(words[1:]) <= targets and len(words) > 1
        for word in words:
            if word.startswith(("deploy/", "docker-compose")):
                assert (ROOT / word).exists(), word


def test_nothing_of_an_event_is_pasted_into_a_shell(workflow: dict[str, Any]) -> None:
    assert not [step["run"] for step in steps(workflow) if "${{" in step.get("run", "")]


def test_images_are_built_for_the_stages_that_are_there() -> None:
    stages = re.findall(r"^FROM .* AS (\S+)$", (ROOT / "deploy/Dockerfile").read_text(), flags=re.M)
    built = {
        row["target"]
        for row in read(FOLDER / "release.yml")["jobs"]["images"]["strategy"]["matrix"]["include"]
    }
    assert built == {"api", "worker"} <= set(stages)
