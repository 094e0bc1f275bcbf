"""A page of metrics: what its own process has yet to write down is on it."""

from collections.abc import Callable, Collection, Iterator
from types import SimpleNamespace
from typing import Any, cast

import httpx
import pytest
from prometheus_client import CollectorRegistry, Counter
from prometheus_client.registry import Collector

from shared.settings import load_settings
from shared.telemetry.metrics import site
from shared.telemetry.metrics.exposition import Exposition, serve
from shared.telemetry.metrics.site import Site
from tests.ports import free_port
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


@pytest.fixture
def page() -> Iterator[Callable[..., str]]:
    """Serves a process's metrics; gives their URL."""
    ends: list[Callable[[], None]] = []

    def shown(host: str = "127.0.0.1", tokens: Collection[str] = ()) -> str:
        registry = CollectorRegistry()
        Counter("done_total", "Things done.", registry=registry)
        port = free_port()
        ends.append(serve(cast(Any, SimpleNamespace(registry=registry)), host, port, tokens))
        return f"http://127.0.0.1:{port}/metrics"

    yield shown
    for end in ends:
        end()


def test_a_workers_page_asks_for_one_of_its_tokens(page: Callable[..., str]) -> None:
    url = page("0.0.0.0", ["for-the-scraper", "for-the-operator"])

    for token in ("for-the-scraper", "for-the-operator"):
        answer = httpx.get(url, headers={"Authorization": f"Bearer {token}"})
        assert answer.status_code == 200 and "done_total" in answer.text
    for header in ("", "Bearer", "Bearer for-the", "Basic for-the-scraper", "for-the-scraper"):
        refused = httpx.get(url, headers={"Authorization": header})
        assert refused.status_code == 401 and refused.headers["WWW-Authenticate"] == "Bearer"
        assert "done_total" not in refused.text


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost:9464", 200),
        ("127.0.0.1", 200),
        ("[::1]:9464", 200),
        ("rebound.example", 403),
        ("127.0.0.1.rebound.example:9464", 403),
    ],
)
def test_on_loopback_it_is_for_programs_that_mean_this_machine(
    page: Callable[..., str], host: str, status: int
) -> None:
    assert httpx.get(page(), headers={"Host": host}).status_code == status


@pytest.mark.parametrize(
    ("host", "tokens", "served"),
    [
        ("127.0.0.1", {}, [()]),
        ("127.0.0.1", {"METRICS_TOKEN": "m" * 16}, [()]),
        ("0.0.0.0", {"METRICS_TOKEN": "m" * 16}, [["m" * 16]]),
        ("0.0.0.0", {"TRUTHGPT_API_TOKEN": "a" * 16}, [["a" * 16]]),
        (
            "::",
            {"METRICS_TOKEN": "m" * 16, "TRUTHGPT_API_TOKEN": "a" * 16},
            [["m" * 16, "a" * 16]],
        ),
        ("0.0.0.0", {"METRICS_TOKEN": ""}, []),
    ],
)
def test_beyond_loopback_nothing_is_shown_without_a_token(
    monkeypatch: pytest.MonkeyPatch,
    host: str,
    tokens: dict[str, str],
    served: list[Any],
) -> None:
    seen: list[Any] = []
    monkeypatch.setattr(site, "serve", lambda _made, _host, _port, given=(): seen.append(given))
    made = Site.__new__(Site)
    made._settings = load_settings(METRICS_HOST=host, METRICS_PORT=9464, **tokens)
    made._instruments = cast(Any, None)

    made._serve(host, 9464)

    assert seen == served
