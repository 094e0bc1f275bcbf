"""The table of metrics: as API.md names them, documented, well-formed."""

import re
from pathlib import Path

from shared.telemetry.metrics.catalogue import METRICS
from shared.telemetry.metrics.instruments import Instruments

DOCS = Path(__file__).resolve().parents[4] / "docs" / "metrics.md"
PROMISED = {
    *("inference_requests_total", "inference_errors_5xx_total", "inference_errors_4xx_total"),
    *("inference_cache_hits_total", "inference_cache_misses_total", "rate_limit_hits_total"),
    *("circuit_breaker_open_total", "inference_queue_depth", "inference_active_batches"),
    *("inference_active_connections", "inference_tokens_per_second", "process_uptime_seconds"),
    *("process_cpu_percent", "process_memory_bytes", "inference_request_duration_ms"),
    "inference_batch_size",
}


def test_the_promised_names_are_there() -> None:
    assert {metric.name for metric in METRICS} >= PROMISED


def test_the_docs_hold_every_metric() -> None:
    rows = re.findall(
        r"^\| `(\w+)` \| (\w+) \| ([^|]*) \| (.*) \|$", DOCS.read_text(), re.MULTILINE
    )
    documented = {
        name: (kind, tuple(re.findall(r"`(\w+)`", labels)), text)
        for name, kind, labels, text in rows
    }
    assert documented == {m.name: (m.kind, m.labels, m.help) for m in METRICS}


def test_buckets_rise_and_gauges_are_those_of_the_living(instruments: Instruments) -> None:
    for metric in METRICS:
        instruments[metric.name]
        assert list(metric.buckets) == sorted(set(metric.buckets))
        assert bool(metric.buckets) == (metric.kind == "histogram")
        assert metric.merge.startswith("live"), "the directory forgets the gauges of the dead"
