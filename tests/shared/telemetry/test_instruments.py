import pytest

from shared.telemetry.instruments import Instruments
from tests.shared.telemetry.conftest import scrape


def test_a_weighted_observation_is_as_many_single_ones(instruments: Instruments) -> None:
    weighted = instruments.child("inference_time_between_tokens_seconds", "weighted")
    single = instruments.child("inference_time_between_tokens_seconds", "single")

    for amount, times in ((0.0005, 3), (0.03, 7), (99.0, 2)):
        weighted.add(amount, times)
        for _ in range(times):
            single.observe(amount)

    seen = scrape(instruments.registry)
    for end in ("bucket", "count", "sum"):
        name = f"inference_time_between_tokens_seconds_{end}"
        both = {
            model: [s.value for s in seen.named(name) if s.labels["model"] == model]
            for model in ("weighted", "single")
        }
        assert both["weighted"] == pytest.approx(both["single"])
    assert seen.sum("inference_time_between_tokens_seconds_count", model="weighted") == 12


def test_an_unknown_metric_is_refused(instruments: Instruments) -> None:
    with pytest.raises(KeyError):
        instruments["inference_inventions_total"]
