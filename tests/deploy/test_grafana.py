"""The dashboards are made of the boards, well-formed, and ask for metrics that there are."""

import json
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.grafana.build import COLUMNS, HERE, SOURCE, build
from tests.promql import unknown

PROVISIONING = HERE / "provisioning"
BOARDS = sorted((HERE / "boards").glob("*.yml"))
UNITS = {"short", "percent", "percentunit", "s", "ms", "bytes", "ops", "reqps"}


def dashboards() -> list[dict[str, Any]]:
    return [json.loads(file.read_text("utf-8")) for file in sorted(HERE.glob("dashboards/*.json"))]


def panels(dashboard: dict[str, Any]) -> list[dict[str, Any]]:
    return [panel for panel in dashboard["panels"] if panel["type"] != "row"]


@pytest.mark.parametrize("source", BOARDS, ids=lambda source: source.stem)
def test_the_dashboard_is_the_one_that_its_board_makes(source: Path) -> None:
    made = build(source.stem, yaml.safe_load(source.read_text("utf-8")))
    kept = json.loads((HERE / "dashboards" / f"{source.stem}.json").read_text("utf-8"))
    assert kept == made, "run `python deploy/grafana/build.py`"


def test_there_are_the_boards_that_were_promised_and_no_other_dashboard() -> None:
    names = ["models", "overview", "tenants", "webhooks", "workers"]
    assert [source.stem for source in BOARDS] == names
    assert [file.stem for file in sorted(HERE.glob("dashboards/*.json"))] == names
    assert len({dashboard["uid"] for dashboard in dashboards()}) == len(names)


@pytest.mark.parametrize("dashboard", dashboards(), ids=lambda dashboard: dashboard["uid"])
def test_every_panel_says_what_it_shows_in_which_unit(dashboard: dict[str, Any]) -> None:
    ids = [panel["id"] for panel in dashboard["panels"]]
    assert ids == list(range(1, len(ids) + 1))
    titles = [panel["title"] for panel in panels(dashboard)]
    assert all(titles) and len(set(titles)) == len(titles)
    for panel in panels(dashboard):
        assert panel["description"].endswith("."), panel["title"]
        assert panel["fieldConfig"]["defaults"]["unit"] in UNITS, panel["title"]
        assert panel["targets"], panel["title"]
        assert len({target["refId"] for target in panel["targets"]}) == len(panel["targets"])


@pytest.mark.parametrize("dashboard", dashboards(), ids=lambda dashboard: dashboard["uid"])
def test_no_two_panels_lie_on_each_other(dashboard: dict[str, Any]) -> None:
    places = [panel["gridPos"] for panel in dashboard["panels"]]
    for a, b in combinations(places, 2):
        beside = a["x"] + a["w"] <= b["x"] or b["x"] + b["w"] <= a["x"]
        assert beside or a["y"] + a["h"] <= b["y"] or b["y"] + b["h"] <= a["y"]
    assert all(place["x"] + place["w"] <= COLUMNS for place in places)


@pytest.mark.parametrize("dashboard", dashboards(), ids=lambda dashboard: dashboard["uid"])
def test_every_query_asks_the_chosen_source_for_what_there_is(dashboard: dict[str, Any]) -> None:
    variables = {variable["name"]: variable for variable in dashboard["templating"]["list"]}
    assert variables["datasource"]["type"] == "datasource"
    for panel in panels(dashboard):
        assert panel["datasource"] == SOURCE
        for target in panel["targets"]:
            assert target["datasource"] == SOURCE
            assert not unknown(target["expr"]), (panel["title"], target["expr"])


def test_what_is_provisioned_is_what_lies_there() -> None:
    [provider] = yaml.safe_load((PROVISIONING / "dashboards" / "truthgpt.yml").read_text())[
        "providers"
    ]
    assert provider["type"] == "file" and not provider["allowUiUpdates"]
    [source] = yaml.safe_load((PROVISIONING / "datasources" / "prometheus.yml").read_text())[
        "datasources"
    ]
    scraped = yaml.safe_load((HERE.parent / "prometheus" / "prometheus.yml").read_text())
    assert (source["type"], source["isDefault"]) == ("prometheus", True)
    assert source["jsonData"]["timeInterval"] == scraped["global"]["scrape_interval"]
