"""Every metric there is, in one table; docs/metrics.md is tested against it. Pure: imports no library."""

from dataclasses import dataclass
from typing import Literal

LATENCY_MS = (1, 2.5, 5, 10, 25, 50, 100, 250, 500, 1e3, 2.5e3, 5e3, 1e4, 3e4, 6e4, 3e5, 6e5)
"""From an answer out of memory to the longest `timeout` that a request may ask for."""
WAIT_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)
BETWEEN_SECONDS = (0.001, 0.002, 0.004, 0.008, 0.015, 0.03, 0.06, 0.12, 0.25, 0.5, 1, 5)
"""Factors of two: whether text comes faster than it is read is decided between 10 and 100 ms."""
SEND_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 15, 30, 60)
"""`WEBHOOK_TIMEOUT_SEC` is 15 by default and 60 at most."""
BATCHES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric. `merge` says what a gauge means over the living processes that share a directory."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    help: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()
    merge: Literal["livesum", "livemin"] = "livesum"


_ROUTE = ("method", "endpoint")
_MODEL = ("model",)
_TENANT = ("tenant",)

METRICS = (
    # -- said by the API
    Metric("inference_requests_total", "counter", "HTTP requests answered.", _ROUTE),
    Metric("inference_errors_4xx_total", "counter", "HTTP answers of 400 to 499.", _ROUTE),
    Metric("inference_errors_5xx_total", "counter", "HTTP answers of 500 and more.", _ROUTE),
    Metric(
        "inference_request_duration_ms",
        "histogram",
        "Milliseconds from the request to the last byte of its answer.",
        _ROUTE,
        LATENCY_MS,
    ),
    Metric(
        "inference_active_connections",
        "gauge",
        "Requests being answered now, open event streams included.",
        _ROUTE,
    ),
    Metric("inference_cache_hits_total", "counter", "Results taken from the cache.", _MODEL),
    Metric(
        "inference_cache_shared_total", "counter", "Requests that joined a job under way.", _MODEL
    ),
    Metric("inference_cache_misses_total", "counter", "Results looked for in vain.", _MODEL),
    Metric("rate_limit_hits_total", "counter", "Requests refused by the rate limiter.", _ROUTE),
    Metric(
        "rate_limit_local_decisions_total",
        "counter",
        "Decisions on rate limits that a process made alone, because Redis did not answer.",
    ),
    # -- said by model workers
    Metric("inference_active_batches", "gauge", "Engines that hold jobs now.", _MODEL),
    Metric(
        "inference_batch_size",
        "histogram",
        "Jobs that took part in a step of the engine.",
        _MODEL,
        BATCHES,
    ),
    Metric(
        "inference_tokens_per_second",
        "gauge",
        "Tokens generated a second, over the last 10 seconds.",
        _MODEL,
    ),
    Metric(
        "inference_tokens_total", "counter", "Tokens read and generated.", ("model", "direction")
    ),
    Metric(
        "inference_draft_tokens_total",
        "counter",
        "Tokens that look-up decoding tried ahead, by what became of them, counted as each attempt ends.",
        ("model", "outcome"),
    ),
    Metric(
        "inference_time_to_first_token_seconds",
        "histogram",
        "From the creation of a job to the first piece of its output.",
        _MODEL,
        WAIT_SECONDS,
    ),
    Metric(
        "inference_time_between_tokens_seconds",
        "histogram",
        "Between two tokens of one job, as they leave the engine.",
        _MODEL,
        BETWEEN_SECONDS,
    ),
    Metric(
        "inference_queue_wait_seconds",
        "histogram",
        "From the creation of a job to its first claim.",
        _MODEL,
        WAIT_SECONDS,
    ),
    Metric(
        "inference_start_estimate_error_seconds",
        "histogram",
        "How far off the start was that a job was told when it was made, by direction.",
        ("model", "direction"),
        WAIT_SECONDS,
    ),
    Metric(
        "inference_run_seconds",
        "histogram",
        "From the claim of an attempt to its end.",
        _MODEL,
        WAIT_SECONDS,
    ),
    Metric("inference_attempts_total", "counter", "Attempts by their end.", ("model", "end")),
    Metric(
        "inference_retries_total",
        "counter",
        "Attempts that went back to the queue, by reason.",
        ("model", "reason"),
    ),
    Metric(
        "inference_retries_delayed_total",
        "counter",
        "Retries that had to wait, because the model's retry budget was spent.",
        _MODEL,
    ),
    Metric(
        "inference_failures_total",
        "counter",
        "Jobs that failed, by the code of their error.",
        ("model", "code"),
    ),
    Metric(
        "inference_fenced_writes_total",
        "counter",
        "Attempts that wrote too late: the store refused them, another attempt owned the job.",
        _MODEL,
    ),
    Metric(
        "inference_device_seconds_total",
        "counter",
        "Seconds of engine steps, apportioned to jobs, counted as each attempt ends.",
        _MODEL,
    ),
    Metric("inference_engine_restarts_total", "counter", "Engine hosts that died.", _MODEL),
    Metric("circuit_breaker_open_total", "counter", "Breakers that opened.", ("model", "scope")),
    Metric("inference_worker_breakers_open", "gauge", "Workers whose own breaker is open.", _MODEL),
    Metric(
        "inference_tenant_jobs_total",
        "counter",
        "Jobs that ended at a worker, by tenant and end.",
        ("tenant", "end"),
    ),
    Metric(
        "inference_tenant_tokens_total",
        "counter",
        "Tokens read and generated for a tenant.",
        ("tenant", "direction"),
    ),
    Metric(
        "inference_tenant_device_seconds_total",
        "counter",
        "Seconds of engine steps, apportioned to tenants.",
        _TENANT,
    ),
    Metric(
        "inference_tenant_queue_seconds_total",
        "counter",
        "Seconds that a tenant's jobs waited for their first claim.",
        _TENANT,
    ),
    # -- said by the rescue worker, which delivers too
    Metric(
        "inference_rescued_jobs_total",
        "counter",
        "Jobs that the rescuer put right, by what had become of them.",
        ("model", "outcome"),
    ),
    Metric(
        "webhook_sends_total",
        "counter",
        "Sends of webhooks, by what became of the delivery.",
        ("model", "outcome"),
    ),
    Metric(
        "webhook_send_seconds",
        "histogram",
        "From the beginning of a send to the receiver's answer, or to giving it up.",
        ("outcome",),
        SEND_SECONDS,
    ),
    # -- said by the process that works on batches
    Metric(
        "inference_batch_lines_total",
        "counter",
        "Lines of batches that have their answer, by whether it is a success.",
        ("outcome",),
    ),
    Metric("inference_batches_total", "counter", "Batches that ended, by status.", ("status",)),
    Metric(
        "inference_batch_steps_broken_total",
        "counter",
        "Steps of batches that failed for no outage and are tried again, by the batch's status.",
        ("status",),
    ),
    # -- read from the store when the API is scraped
    Metric("inference_queue_depth", "gauge", "Jobs that wait.", _MODEL),
    Metric("inference_running_jobs", "gauge", "Jobs that a worker holds.", _MODEL),
    Metric(
        "inference_engine_state",
        "gauge",
        "Live workers by their engine's state.",
        ("model", "state"),
    ),
    Metric(
        "circuit_breaker_state",
        "gauge",
        "The model's breaker: 0 closed, 1 half-open, 2 open.",
        _MODEL,
    ),
    Metric("webhook_backlog", "gauge", "Webhooks that wait to be delivered."),
    Metric(
        "webhook_overdue_seconds",
        "gauge",
        "For how long the receiver that waits longest has been due and was not looked at.",
    ),
    Metric("inference_batches_open", "gauge", "Batches that have not ended."),
    Metric(
        "inference_batch_overdue_seconds",
        "gauge",
        "For how long the batch that waits longest has been due and nobody took its next step.",
    ),
    Metric("inference_redis_memory_bytes", "gauge", "Memory that Redis uses."),
    Metric(
        "inference_redis_memory_limit_bytes",
        "gauge",
        "Memory that Redis may use (maxmemory); 0 where it has no limit.",
    ),
    Metric("inference_redis_up", "gauge", "1 when the store answered this scrape, else 0."),
    # -- said by every process
    Metric(
        "process_uptime_seconds",
        "gauge",
        "Seconds since the youngest such process started.",
        ("process",),
        merge="livemin",
    ),
    Metric("process_cpu_percent", "gauge", "CPU use; 100 is one core.", ("process",)),
    Metric("process_memory_bytes", "gauge", "Resident memory.", ("process",)),
)

BY_NAME = {metric.name: metric for metric in METRICS}
