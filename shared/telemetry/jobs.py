"""What a model's worker says of its jobs and its engine."""

import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

from shared.errors import PROBLEMS
from shared.hooks import Hooks
from shared.states import TERMINAL, JobState
from shared.telemetry.instruments import Instruments
from shared.telemetry.tenants import TenantSeries
from shared.telemetry.window import Window

RETRIED = "retried"
FENCED = "fenced"
ENDS = (*sorted(TERMINAL), RETRIED, FENCED)
OTHER = "other"
CODES = (*sorted(PROBLEMS), OTHER)
REASONS = (*sorted(PROBLEMS), "engine_lost", "log_cut", "worker_stopping", OTHER)
BREAKER_SCOPES = ("model", "worker")


class JobMetrics(Hooks):
    """Metrics of one model. What happens a token is gathered and written once a step."""

    def __init__(
        self, instruments: Instruments, model: str, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._running: dict[str, str] = {}
        """Whose job each attempt is that this worker holds."""
        self._spoke: dict[str, float] = {}
        """When each job said its latest piece. Touched by the engine client's thread alone."""
        self._window = Window(clock=clock)

        def one(name: str) -> Any:
            return instruments.child(name, model)

        def by(name: str, values: tuple[str, ...]) -> dict[str, Any]:
            return {value: instruments.child(name, model, value) for value in values}

        self._batches = one("inference_active_batches")
        self._batch_size = one("inference_batch_size")
        self._rate = one("inference_tokens_per_second")
        self._first = one("inference_time_to_first_token_seconds")
        self._between = one("inference_time_between_tokens_seconds")
        self._waits = one("inference_queue_wait_seconds")
        self._runs = one("inference_run_seconds")
        self._fenced = one("inference_fenced_writes_total")
        self._device = one("inference_device_seconds_total")
        self._restarts = one("inference_engine_restarts_total")
        self._estimates = by("inference_start_estimate_error_seconds", ("late", "early"))
        self._tokens = by("inference_tokens_total", ("prompt", "completion"))
        self._ends = by("inference_attempts_total", ENDS)
        self._reasons = by("inference_retries_total", REASONS)
        self._delayed = one("inference_retries_delayed_total")
        self._failures = by("inference_failures_total", CODES)
        self._opened = by("circuit_breaker_open_total", BREAKER_SCOPES)
        self._own_breaker = one("inference_worker_breakers_open")
        self._tenants = TenantSeries(instruments)

    def job_claimed(self, claim: Any) -> None:
        if claim.attempt == 1:
            waited = (claim.claimed_ms - claim.created_ms) / 1000
            self._waits.observe(waited)
            self._tenants.waited(claim.tenant, waited)
        with self._lock:
            if not self._running:
                self._batches.set(1)
            self._running[f"{claim.id}/{claim.attempt}"] = claim.tenant

    def estimate_error(self, model: str, seconds: float) -> None:  # noqa: ARG002
        self._estimates["late" if seconds > 0 else "early"].observe(abs(seconds))

    def job_ended(self, claim: Any, state: str, seconds: float, detail: str) -> None:
        self._ends[state].inc()
        self._runs.observe(seconds)
        if state == RETRIED:
            self._reasons.get(detail, self._reasons[OTHER]).inc()
        elif state == FENCED:
            self._fenced.inc()
        else:
            self._tenants.ended(claim.tenant, state)
            if state == JobState.FAILED:
                self._failures.get(detail, self._failures[OTHER]).inc()
        with self._lock:
            self._running.pop(f"{claim.id}/{claim.attempt}", None)
            if not self._running:
                self._batches.set(0)

    def retry_delayed(self, model: str) -> None:  # noqa: ARG002
        self._delayed.inc()

    def job_spoke_first(self, claim: Any, seconds: float) -> None:  # noqa: ARG002 - the hook's signature
        self._first.observe(seconds)

    def engine_stepped(self, model: str, step: Any) -> None:  # noqa: ARG002 - the hook's signature
        now = self._clock()
        if step.batch_size:
            self._batch_size.observe(step.batch_size)
        generated = 0
        gaps: Counter[float] = Counter()
        for piece in step.pieces:
            tokens = len(piece.token_ids)
            generated += tokens
            before = self._spoke.get(piece.ticket)
            self._spoke[piece.ticket] = now
            if before is not None and tokens:
                gaps[(now - before) / tokens] += tokens
        # Those who spoke in the same step before have the same gap: one entry for all of them.
        for gap, times in gaps.items():
            self._between.add(gap, times)
        if generated:
            self._tokens["completion"].inc(generated)
            self._window.add(generated)
        if step.outcomes:
            self._outcomes(step.outcomes)

    def _outcomes(self, outcomes: Any) -> None:
        prompt, device = 0, 0.0
        for outcome in outcomes:
            self._spoke.pop(outcome.ticket, None)
            prompt += outcome.usage.get("prompt_tokens", 0)
            device += outcome.device_seconds
            if (tenant := self._running.get(outcome.ticket)) is not None:
                self._tenants.used(tenant, outcome.usage, outcome.device_seconds)
        self._tokens["prompt"].inc(prompt)
        self._device.inc(device)

    def engine_lost(self, model: str, reason: str) -> None:  # noqa: ARG002 - the hook's signature
        self._spoke.clear()
        self._restarts.inc()

    def breaker_changed(self, model: str, scope: str, old: str, new: str) -> None:  # noqa: ARG002
        if scope == "worker":
            self._own_breaker.set(1 if new == "open" else 0)
        if new == "open":
            self._opened[scope].inc()

    def tick(self) -> None:
        """Bring up to date what changes without an event: the rate falls when nothing comes."""
        self._rate.set(self._window.rate())
