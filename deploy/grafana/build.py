"""Makes Grafana's dashboards (dashboards/*.json) of boards/*.yml: `python deploy/grafana/build.py`.

A board has a title, the labels that it can be filtered by, and rows of panels. A panel has a title, a
description, a unit of Grafana's and either `queries` (legend -> PromQL) or `quantiles` of a histogram.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

HERE = Path(__file__).resolve().parent
SCHEMA = 39
"""Of Grafana 11; later ones take it and carry it over."""
SOURCE = {"type": "prometheus", "uid": "${datasource}"}
COLUMNS = 24
QUANTILES = {"p50": 0.5, "p95": 0.95, "p99": 0.99}
FILTERS = {"model": "inference_queue_depth", "tenant": "inference_tenant_jobs_total"}
"""A metric each from which Grafana learns a label's values."""
SIZES = {"stat": (4, 4), "table": (24, 9)}
USUAL_SIZE = (8, 8)


def build(name: str, board: Mapping[str, Any]) -> dict[str, Any]:
    """A board's dashboard. `name` is its uid and its file's name."""
    filters = board.get("filters", [])
    return {
        "uid": f"truthgpt-{name}",
        "title": board["title"],
        "description": board["description"],
        "tags": ["truthgpt"],
        "schemaVersion": SCHEMA,
        "editable": False,
        "graphTooltip": 1,
        "refresh": "30s",
        "time": {"from": "now-1h", "to": "now"},
        "templating": {"list": [_sources(), *map(_filter, filters)]},
        "annotations": {"list": [_alerts()]},
        "links": [_links()],
        "panels": list(_panels(board["rows"])),
    }


def _panels(rows: list[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    """Rows one below the other; panels from left to right, wrapped, each line as high as its highest."""
    number, top = 1, 0
    for row in rows:
        place = {"x": 0, "y": top, "w": COLUMNS, "h": 1}
        yield {"id": number, "type": "row", "title": row["title"], "collapsed": False} | {
            "gridPos": place,
            "panels": [],
        }
        number, top, left, high = number + 1, top + 1, 0, 0
        for panel in row["panels"]:
            width, height = SIZES.get(panel.get("type", ""), USUAL_SIZE)
            if left + width > COLUMNS:
                top, left, high = top + high, 0, 0
            yield _panel(number, panel, {"x": left, "y": top, "w": width, "h": height})
            number, left, high = number + 1, left + width, max(high, height)
        top += high


def _panel(number: int, panel: Mapping[str, Any], place: Mapping[str, int]) -> dict[str, Any]:
    kind = panel.get("type", "timeseries")
    defaults: dict[str, Any] = {"unit": panel["unit"], "min": 0}
    if "limits" in panel:
        colours = ["green", "orange", "red"]
        steps = zip(colours, [None, *panel["limits"]], strict=False)
        defaults["thresholds"] = {
            "mode": "absolute",
            "steps": [{"color": colour, "value": value} for colour, value in steps],
        }
    if "values" in panel:
        named = {str(value): {"text": text} for value, text in panel["values"].items()}
        defaults["mappings"] = [{"type": "value", "options": named}]
    if kind == "timeseries":
        stacked = {"mode": "normal" if panel.get("stacked") else "none"}
        fill = 40 if panel.get("stacked") else 8
        defaults["custom"] = {"fillOpacity": fill, "showPoints": "never", "stacking": stacked}
    instant = kind in ("stat", "table")
    return {
        "id": number,
        "type": kind,
        "title": panel["title"],
        "description": panel["description"],
        "datasource": SOURCE,
        "gridPos": dict(place),
        "fieldConfig": {"defaults": defaults, "overrides": []},
        "options": _options(kind),
        "targets": [
            {
                "refId": chr(ord("A") + index),
                "datasource": SOURCE,
                "expr": query,
                "legendFormat": legend,
                "instant": instant,
                "range": not instant,
                "format": "table" if kind == "table" else "time_series",
            }
            for index, (legend, query) in enumerate(_queries(panel).items())
        ],
        **({"transformations": _TABLE} if kind == "table" else {}),
    }


_TABLE = [
    {"id": "merge", "options": {}},
    {"id": "organize", "options": {"excludeByName": {"Time": True}}},
]


def _options(kind: str) -> dict[str, Any]:
    match kind:
        case "timeseries":
            legend = {"displayMode": "list", "placement": "bottom", "showLegend": True}
            return {"legend": legend, "tooltip": {"mode": "multi", "sort": "desc"}}
        case "stat":
            return {
                "colorMode": "value",
                "graphMode": "none",
                "reduceOptions": {"calcs": ["lastNotNull"]},
            }
        case _:
            return {}


def _queries(panel: Mapping[str, Any]) -> dict[str, str]:
    """Legend -> PromQL."""
    if "quantiles" not in panel:
        return dict(panel["queries"])
    where = panel.get("where", "")
    rate = f"sum by (le) (rate({panel['quantiles']}_bucket{{{where}}}[$__rate_interval]))"
    return {name: f"histogram_quantile({share}, {rate})" for name, share in QUANTILES.items()}


def _sources() -> dict[str, Any]:
    return {
        "name": "datasource",
        "label": "Data source",
        "type": "datasource",
        "query": "prometheus",
    }


def _filter(label: str) -> dict[str, Any]:
    query = f"label_values({FILTERS[label]}, {label})"
    return {
        "name": label,
        "label": label.capitalize(),
        "type": "query",
        "datasource": SOURCE,
        "definition": query,
        "query": {"query": query, "refId": f"values of {label}"},
        "refresh": 2,
        "sort": 1,
        "multi": True,
        "includeAll": True,
        "allValue": ".*",
        "current": {"text": "All", "value": "$__all"},
    }


def _alerts() -> dict[str, Any]:
    return {
        "name": "Alerts",
        "enable": True,
        "datasource": SOURCE,
        "expr": 'ALERTS{alertstate="firing"}',
        "titleFormat": "{{alertname}}",
        "textFormat": "{{model}}",
        "iconColor": "red",
    }


def _links() -> dict[str, Any]:
    return {
        "title": "Dashboards",
        "type": "dashboards",
        "tags": ["truthgpt"],
        "asDropdown": True,
        "keepTime": True,
        "includeVars": True,
    }


def main() -> None:
    for source in sorted((HERE / "boards").glob("*.yml")):
        board = yaml.safe_load(source.read_text("utf-8"))
        text = json.dumps(build(source.stem, board), indent=1, ensure_ascii=False)
        (HERE / "dashboards" / f"{source.stem}.json").write_text(text + "\n", "utf-8")


if __name__ == "__main__":
    main()
