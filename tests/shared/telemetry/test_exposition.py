"""A page of metrics: what its own process has yet to write down is on it."""

from collections.abc import Iterator
from typing import Any

from prometheus_client import CollectorRegistry, Counter
from prometheus_client.registry import Collector

from shared.telemetry.exposition import Exposition
from tests.shared.telemetry.conftest import Scrape


class Source(Collector):
    """A registry as a source of a page."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry

    def collect(self) -> Iterator[Any]:
        yield from self._registry.collect()


def test_what_is_still_to_be_written_is_on_the_page() -> None:
    registry = CollectorRegistry()
    counter = Counter("done_total", "Things done.", registry=registry)

    _, page = Exposition(Source(registry), first=counter.inc).render("")

    assert Scrape(page.decode()).sum("done_total") == 1
