"""Reading metrics as a scraper would."""

from typing import Any

import pytest
from prometheus_client import CollectorRegistry, values
from prometheus_client.parser import text_string_to_metric_families

from shared.telemetry.metrics.exposition import Exposition
from shared.telemetry.metrics.instruments import Instruments


class Scrape:
    """The samples of one page."""

    def __init__(self, page: str) -> None:
        self.families = list(text_string_to_metric_families(page))
        self.samples = [sample for family in self.families for sample in family.samples]

    def sum(self, name: str, **labels: str) -> float:
        """Of all samples of that name that have these labels."""
        return sum(s.value for s in self.named(name) if labels.items() <= s.labels.items())

    def named(self, name: str) -> list[Any]:
        return [sample for sample in self.samples if sample.name == name]


def scrape(registry: CollectorRegistry) -> Scrape:
    return Scrape(Exposition(registry).render("")[1].decode())


@pytest.fixture
def instruments(monkeypatch: pytest.MonkeyPatch) -> Instruments:
    """Metrics that stay in this process."""
    monkeypatch.setattr(values, "ValueClass", values.MutexValue)
    return Instruments()
