import pytest

from shared.telemetry.metrics.instruments import Instruments
from tests.shared.telemetry.conftest import scrape

MODELS = ("together", "single")


def test_many_observations_at_once_are_as_many_single_ones(instruments: Instruments) -> None:
    together = instruments.child("inference_run_seconds", "together")
    single = instruments.child("inference_run_seconds", "single")
    together.observe_all([])
    together.observe_all([0.0005, 0.03, 0.03, 9999.0])
    for amount in (0.0005, 0.03, 0.03, 9999.0):
        single.observe(amount)

    seen = scrape(instruments.registry)
    for end in ("bucket", "count", "sum"):
        rows = seen.named(f"inference_run_seconds_{end}")
        by = {name: [s.value for s in rows if s.labels["model"] == name] for name in MODELS}
        assert by["together"] == pytest.approx(by["single"])


def test_an_unknown_metric_is_refused(instruments: Instruments) -> None:
    with pytest.raises(KeyError):
        instruments["inference_inventions_total"]
