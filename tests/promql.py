"""What a PromQL query names: enough of a reader to hold queries against the table of metrics."""

import re
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from shared.telemetry.metrics.catalogue import BY_NAME

ALERTS = Path(__file__).resolve().parents[1] / "deploy" / "prometheus" / "alerts.yml"
OF_PROMETHEUS = {"up", "ALERTS"}
ALWAYS = {"instance", "job", "le", "alertstate"}
"""Labels that Prometheus and its histograms add."""
_GROUPING = r"\b(by|without|on|ignoring|group_left|group_right)\s*\(([^)]*)\)"
_WORDS = {"and", "or", "unless", "bool", "offset", "group_left", "group_right"}


@cache
def rules() -> list[dict[str, Any]]:
    """The rules of deploy/prometheus/alerts.yml; alerts have an `alert`, recording rules a `record`."""
    groups = yaml.safe_load(ALERTS.read_text("utf-8"))["groups"]
    return [rule for group in groups for rule in group["rules"]]


def metrics(query: str) -> set[str]:
    """The names of the series that a query reads."""
    bare = re.sub(r'"[^"]*"', "", query)
    bare = re.sub(r"\{[^}]*\}|\[[^]]*\]", "", bare)
    bare = re.sub(_GROUPING, "", bare)
    names = {
        match[0]
        for match in re.finditer(r"(?<![\w:.])[a-zA-Z_:][\w:]*", bare)
        if not re.match(r"\s*\(", bare[match.end() :])
    }
    return names - _WORDS


def labels(query: str) -> set[str]:
    """The labels that a query selects or groups by."""
    bare = re.sub(r'"[^"]*"', '""', query)
    selected = {name for braces in re.findall(r"\{([^}]*)\}", bare) for name in _names(braces)}
    grouped = {name for _, inside in re.findall(_GROUPING, bare) for name in _names(inside)}
    return selected | grouped


@cache
def _recorded() -> dict[str, set[str]]:
    """Our recording rules' series, each with its labels."""
    return {rule["record"]: labels(rule["expr"]) for rule in rules() if "record" in rule}


def unknown(query: str) -> set[str]:
    """Series that neither we nor Prometheus nor our recording rules make, and labels that they lack."""
    series, allowed = set(), set(ALWAYS)
    for name in metrics(query):
        metric = BY_NAME.get(name)
        if metric is None and (parts := re.fullmatch(r"(\w+)_(bucket|sum|count)", name)):
            metric = BY_NAME.get(parts[1])
            metric = metric if metric is not None and metric.kind == "histogram" else None
        if metric is not None:
            allowed |= set(metric.labels)
        elif name in _recorded():
            allowed |= _recorded()[name]
        elif name not in OF_PROMETHEUS:
            series.add(name)
    return series | (labels(query) - allowed)


def _names(text: str) -> list[str]:
    return re.findall(r"[a-zA-Z_]\w*", text)
