"""What a worker's metrics make of the hooks."""

from typing import Any

import pytest

from shared.domain.records import Claim
from shared.domain.write_results import Rescued
from shared.hooks import Hooks, Observers
from shared.telemetry.metrics.deliveries import DeliveryMetrics
from shared.telemetry.metrics.instruments import Instruments
from shared.telemetry.metrics.jobs import JobMetrics
from shared.telemetry.metrics.rescues import RescueMetrics
from shared.telemetry.metrics.tenants import MOST, OTHERS
from tests.shared.telemetry.conftest import Scrape, scrape
from workers.host_protocol.messages import Outcome, PieceOut, Stepped

OBSERVERS = (JobMetrics, RescueMetrics, DeliveryMetrics)


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Worker:
    """Emits what a worker would, and reads the result."""

    def __init__(self, instruments: Instruments) -> None:
        self._instruments = instruments
        self.clock = Clock()
        self.metrics = JobMetrics(instruments, "m", self.clock)
        self._observers = Observers(self.metrics)

    def emit(self, hook: str, *args: Any) -> None:
        self._observers.emit(hook, *args)

    def claim(self, *claims: Claim) -> None:
        self.emit("batch_claimed", "m", claims, 0.001)

    def end(self, *end: Any) -> None:
        self.emit("batch_ended", "m", [end])

    def step(self, after: float, *pieces: PieceOut, outcomes: tuple[Outcome, ...] = ()) -> None:
        self.clock.now += after
        self.emit("engine_stepped", "m", Stepped([*pieces], [*outcomes], len(pieces), after * 1e3))

    def seen(self) -> Scrape:
        self.metrics.tick()
        return scrape(self._instruments.registry)


def claim(job_id: str = "job_a", attempt: int = 1, tenant: str = "t") -> Claim:
    return Claim(job_id, attempt, tenant, b"{}", 60.0, 1_000, 1_250, 0, 0, "", "")


@pytest.fixture
def worker(instruments: Instruments) -> Worker:
    return Worker(instruments)


def test_waits_runs_and_ends_are_counted(worker: Worker) -> None:
    worker.claim(claim())
    assert worker.seen().sum("inference_active_batches", model="m") == 1
    worker.end(claim(), "retried", 0.5, "engine_error")
    worker.claim(claim(attempt=2))
    worker.end(claim(attempt=2), "succeeded", 0.5, "")

    seen = worker.seen()
    assert seen.sum("inference_active_batches") == 0
    assert seen.sum("inference_queue_wait_seconds_count") == 1, "of the first claim alone"
    assert seen.sum("inference_queue_wait_seconds_sum") == pytest.approx(0.25)
    assert seen.sum("inference_run_seconds_sum") == pytest.approx(1.0)
    assert seen.sum("inference_attempts_total", end="succeeded") == 1
    assert seen.sum("inference_retries_total", reason="engine_error") == 1


def test_estimates_are_judged_by_direction(worker: Worker) -> None:
    for seconds in (2.0, 0.5, -3.0):
        worker.emit("estimate_error", "m", seconds)

    seen = worker.seen()
    name = "inference_start_estimate_error_seconds_sum"
    assert seen.sum(name, direction="late") == pytest.approx(2.5)
    assert seen.sum(name, direction="early") == pytest.approx(3.0)


def test_failures_by_code_and_retries_that_had_to_wait(worker: Worker) -> None:
    worker.end(claim(), "failed", 0.5, "poison_input")
    worker.end(claim(), "expired", 0.5, "job_expired")
    worker.emit("retry_delayed", "m")

    seen = worker.seen()
    assert seen.sum("inference_failures_total") == 1
    assert seen.sum("inference_failures_total", model="m", code="poison_input") == 1
    assert seen.sum("inference_retries_delayed_total", model="m") == 1


def test_what_became_of_drafts(worker: Worker) -> None:
    assert worker.seen().sum("inference_draft_tokens_total", model="m", outcome="rejected") == 0
    for used in ({"drafted_tokens": 9, "accepted_tokens": 7}, {"prompt_tokens": 3}):
        worker.step(0.1, outcomes=(Outcome("a/1", "finished", b"{}", used),))

    seen = worker.seen()
    assert seen.sum("inference_draft_tokens_total", model="m", outcome="accepted") == 7
    assert seen.sum("inference_draft_tokens_total", model="m", outcome="rejected") == 2


def test_what_tenants_use(worker: Worker) -> None:
    for name, tenant in (("job_a", "acme"), ("job_b", "zeta")):
        worker.claim(claim(name, tenant=tenant))
    used = {"prompt_tokens": 7, "completion_tokens": 3}
    worker.step(0.1, outcomes=(Outcome("job_a/1", "finished", b"{}", used, device_seconds=0.25),))
    worker.end(claim(tenant="acme"), "succeeded", 0.5, "")
    worker.end(claim("job_b", tenant="zeta"), "retried", 0.5, "engine_error")

    seen = worker.seen()
    assert seen.sum("inference_tenant_jobs_total") == 1, "a retried attempt is no end"
    assert seen.sum("inference_tenant_jobs_total", tenant="acme", end="succeeded") == 1
    assert seen.sum("inference_tenant_tokens_total", tenant="acme", direction="prompt") == 7
    assert seen.sum("inference_tenant_tokens_total", tenant="acme", direction="completion") == 3
    assert seen.sum("inference_tenant_device_seconds_total", tenant="acme") == pytest.approx(0.25)
    assert seen.sum("inference_tenant_queue_seconds_total", tenant="zeta") == pytest.approx(0.25)
    assert seen.sum("inference_tenant_jobs_total", tenant="default") == 0


def test_tenants_beyond_the_bound_are_others(worker: Worker) -> None:
    for number in range(MOST + 20):
        worker.end(claim(tenant=f"tenant-{number}"), "succeeded", 0.5, "")

    ends = worker.seen().named("inference_tenant_jobs_total")
    assert len({sample.labels["tenant"] for sample in ends}) == MOST + 1
    assert sum(sample.value for sample in ends) == MOST + 20
    assert worker.seen().sum("inference_tenant_jobs_total", tenant=OTHERS) == 21, "default is known"


def test_a_fenced_attempt_is_a_fenced_write(worker: Worker) -> None:
    worker.end(claim(), "fenced", 9.0, "")
    assert worker.seen().sum("inference_fenced_writes_total", model="m") == 1
    assert worker.seen().sum("inference_retries_total") == 0


def test_of_several_texts_of_a_job_the_first_shows_its_rhythm(worker: Worker) -> None:
    both = [PieceOut("a/1", "x", (1,), choice=choice) for choice in range(2)]
    worker.step(0.0, *both)
    worker.step(0.1, *both)

    seen = worker.seen()
    between = "inference_time_between_tokens_seconds"
    assert (seen.sum(f"{between}_count"), seen.sum(f"{between}_sum")) == (1, pytest.approx(0.1))
    assert seen.sum("inference_tokens_total", direction="completion") == 4


def test_tokens_and_the_time_between_them(worker: Worker) -> None:
    worker.emit("batch_spoke_first", "m", [0.3])
    worker.step(0.0, PieceOut("a/1", "x", (1,)), PieceOut("b/1", "x", (1,)))
    worker.step(0.1, PieceOut("a/1", "x", (1,)), PieceOut("b/1", "xy", (1, 2)))
    used = {"prompt_tokens": 7, "completion_tokens": 3}
    ended = Outcome("a/1", "finished", b"{}", used, device_seconds=0.25)
    worker.step(0.2, PieceOut("a/1", "z", (3,)), outcomes=(ended,))

    seen = worker.seen()
    between = "inference_time_between_tokens_seconds"
    assert seen.sum(f"{between}_count") == 4, "one of a and two of b in step 2, one of a in step 3"
    assert seen.sum(f"{between}_sum") == pytest.approx(0.1 + 2 * 0.05 + 0.2)
    assert seen.sum("inference_tokens_total", direction="completion") == 6
    assert seen.sum("inference_tokens_total", direction="prompt") == 7
    assert seen.sum("inference_device_seconds_total") == pytest.approx(0.25)
    assert seen.sum("inference_time_to_first_token_seconds_sum") == pytest.approx(0.3)
    assert seen.sum("inference_batch_size_sum") == 5
    assert seen.sum("inference_tokens_per_second") == pytest.approx(6)
    assert set(worker.metrics._spoke) == {"b/1"}, "who has ended is forgotten"


def test_a_lost_engine_is_counted_and_its_jobs_have_no_gap(worker: Worker) -> None:
    worker.step(0.0, PieceOut("a/1", "x", (1,)))
    worker.emit("engine_lost", "m", "signal 9")
    worker.step(50.0, PieceOut("a/1", "x", (1,)))
    assert worker.seen().sum("inference_engine_restarts_total", model="m") == 1
    assert worker.seen().sum("inference_time_between_tokens_seconds_count") == 0


def test_breakers(worker: Worker) -> None:
    worker.emit("breaker_changed", "m", "model", "closed", "open")
    worker.emit("breaker_changed", "m", "model", "open", "half_open")
    worker.emit("breaker_changed", "m", "worker", "closed", "open")

    seen = worker.seen()
    assert seen.sum("inference_worker_breakers_open", model="m") == 1
    assert seen.sum("circuit_breaker_open_total", scope="model") == 1
    assert seen.sum("circuit_breaker_open_total", scope="worker") == 1


def test_words_that_nobody_knows_make_no_series(worker: Worker) -> None:
    before = len(worker.seen().samples)
    for number in range(50):
        worker.end(claim(f"job_{number}"), "retried", 0.1, f"reason {number}")
        worker.end(claim(f"job_{number}"), f"state {number}", 0.1, "")
    assert worker.seen().sum("inference_retries_total", reason="other") == 50
    assert len(worker.seen().samples) == before


def test_rescues_of_the_catalogues_models(instruments: Instruments) -> None:
    metrics = RescueMetrics(instruments, ["m"])
    metrics.jobs_rescued("m", Rescued(2, 1, 5, 0, ring=True))
    metrics.jobs_rescued("gone", Rescued(2, 1, 5, 0, ring=True))

    seen = scrape(instruments.registry)
    assert seen.sum("inference_rescued_jobs_total", outcome="requeued") == 2
    assert seen.sum("inference_rescued_jobs_total") == 3
    assert seen.sum("inference_failures_total", model="m", code="worker_crashed") == 1


def test_sends_of_webhooks(instruments: Instruments) -> None:
    metrics = DeliveryMetrics(instruments, ["m"])
    metrics.webhook_delivered("m", "delivered", 0.3, 1)
    metrics.webhook_delivered("m", "retry", 15.0, 1)
    metrics.webhook_delivered("gone", "dead", 0.1, 9)

    seen = scrape(instruments.registry)
    assert seen.sum("webhook_sends_total", model="m", outcome="delivered") == 1
    assert seen.sum("webhook_sends_total", model="other", outcome="dead") == 1
    assert seen.sum("webhook_send_seconds_sum", outcome="retry") == pytest.approx(15)


def test_every_hook_that_metrics_listen_to_can_be_emitted() -> None:
    listened = {name for cls in OBSERVERS for name in vars(cls)} - {"tick"}
    emitted = {name for name in listened if not name.startswith("_")} - {"breaker_changed"}
    assert emitted <= set(vars(Hooks))
