"""What is kept in memory and written later is what would have been written at once."""

import pytest

from shared.telemetry.metrics.instruments import Instruments
from shared.telemetry.metrics.kept import Ledger
from tests.shared.telemetry.conftest import scrape

AMOUNTS = ((0.0005, 3), (0.03, 7), (99.0, 2))
BETWEEN = "inference_time_between_tokens_seconds"


def test_a_kept_histogram_writes_as_many_as_it_observed(instruments: Instruments) -> None:
    ledger = Ledger(instruments)
    kept = ledger.histogram(BETWEEN, "kept")
    single = instruments.child(BETWEEN, "single")
    for amount, times in AMOUNTS:
        kept.observe(amount, times)
        for _ in range(times):
            single.observe(amount)
    assert scrape(instruments.registry).sum(f"{BETWEEN}_count", model="kept") == 0
    ledger.write()

    seen = scrape(instruments.registry)
    for end in ("bucket", "count", "sum"):
        both = {
            model: [s.value for s in seen.named(f"{BETWEEN}_{end}") if s.labels["model"] == model]
            for model in ("kept", "single")
        }
        assert both["kept"] == pytest.approx(both["single"])
    assert seen.sum(f"{BETWEEN}_count", model="kept") == 12


def test_what_was_written_is_not_written_again(instruments: Instruments) -> None:
    ledger = Ledger(instruments)
    restarts = ledger.counter("inference_engine_restarts_total", "m")
    between = ledger.histogram(BETWEEN, "m")
    for _ in range(2):
        restarts.inc(2)
        between.observe(0.5)
        ledger.write()
        ledger.write()

    seen = scrape(instruments.registry)
    assert seen.sum("inference_engine_restarts_total") == 4
    assert seen.sum(f"{BETWEEN}_count") == 2 and seen.sum(f"{BETWEEN}_sum") == 1.0


@pytest.mark.parametrize("amount", [-3, float("nan")])
def test_an_amount_that_cannot_be_counted_keeps_nothing_from_being_written(
    instruments: Instruments, amount: float
) -> None:
    ledger = Ledger(instruments)
    tokens = ledger.counter("inference_tokens_total", "m", "prompt")
    restarts = ledger.counter("inference_engine_restarts_total", "m")
    tokens.inc(amount)
    restarts.inc()
    ledger.write()
    tokens.inc(2)
    ledger.write()

    seen = scrape(instruments.registry)
    assert seen.sum("inference_engine_restarts_total") == 1
    assert seen.sum("inference_tokens_total") == 2
