"""What a model's worker says of its jobs and its engine."""

import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from shared.domain.errors import PROBLEMS
from shared.domain.states import TERMINAL, JobState
from shared.hooks import Hooks
from shared.telemetry.metrics.instruments import Instruments
from shared.telemetry.metrics.kept import KeptCounter, KeptHistogram, Ledger
from shared.telemetry.metrics.tenants import TenantSeries
from shared.telemetry.metrics.window import Window

RETRIED = "retried"
FENCED = "fenced"
ENDS = (*sorted(TERMINAL), RETRIED, FENCED)
OTHER = "other"
CODES = (*sorted(PROBLEMS), OTHER)
REASONS = (*sorted(PROBLEMS), "engine_lost", "log_cut", "worker_stopping", OTHER)
BREAKER_SCOPES = ("model", "worker")


class JobMetrics(Hooks):
    """Metrics of one model. What happens a token, a job or a step is kept, and written at each tick."""

    def __init__(
        self, instruments: Instruments, model: str, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        """For all that follows but the two gauges and the window."""
        self._running: dict[str, str] = {}
        """Whose job each attempt is that this worker holds."""
        self._spoke: dict[str, float] = {}
        """When each job said its latest piece."""
        self._window = Window(clock=clock)
        self._ledger = ledger = Ledger(instruments)

        def one(name: str) -> KeptCounter:
            return ledger.counter(name, model)

        def by(name: str, values: tuple[str, ...]) -> dict[str, KeptCounter]:
            return {value: ledger.counter(name, model, value) for value in values}

        def spread(name: str, *values: str) -> KeptHistogram:
            return ledger.histogram(name, model, *values)

        self._batches = instruments.child("inference_active_batches", model)
        self._batch_size = spread("inference_batch_size")
        self._rate = instruments.child("inference_tokens_per_second", model)
        self._first = spread("inference_time_to_first_token_seconds")
        self._between = spread("inference_time_between_tokens_seconds")
        self._waits = spread("inference_queue_wait_seconds")
        self._runs = spread("inference_run_seconds")
        self._fenced = one("inference_fenced_writes_total")
        self._device = one("inference_device_seconds_total")
        self._restarts = one("inference_engine_restarts_total")
        self._estimates = {
            way: spread("inference_start_estimate_error_seconds", way) for way in ("late", "early")
        }
        self._tokens = by("inference_tokens_total", ("prompt", "completion"))
        self._drafts = by("inference_draft_tokens_total", ("accepted", "rejected"))
        self._ends = by("inference_attempts_total", ENDS)
        self._reasons = by("inference_retries_total", REASONS)
        self._delayed = one("inference_retries_delayed_total")
        self._failures = by("inference_failures_total", CODES)
        self._opened = by("circuit_breaker_open_total", BREAKER_SCOPES)
        self._own_breaker = instruments.child("inference_worker_breakers_open", model)
        self._tenants = TenantSeries(ledger)

    def batch_claimed(self, model: str, claims: Sequence[Any], seconds: float) -> None:  # noqa: ARG002
        with self._lock:
            for claim in claims:
                self._running[f"{claim.id}/{claim.attempt}"] = claim.tenant
                if claim.attempt == 1:
                    waited = (claim.claimed_ms - claim.created_ms) / 1000
                    self._waits.observe(waited)
                    self._tenants.waited(claim.tenant, waited)

    def estimate_error(self, model: str, seconds: float) -> None:  # noqa: ARG002
        with self._lock:
            self._estimates["late" if seconds > 0 else "early"].observe(abs(seconds))

    def batch_ended(self, model: str, ends: Sequence[tuple[Any, str, float, str]]) -> None:  # noqa: ARG002
        with self._lock:
            for claim, state, seconds, detail in ends:
                self._running.pop(f"{claim.id}/{claim.attempt}", None)
                self._runs.observe(seconds)
                self._ended(claim.tenant, state, detail)

    def _ended(self, tenant: str, state: str, detail: str) -> None:
        self._ends[state].inc()
        if state == RETRIED:
            self._reasons.get(detail, self._reasons[OTHER]).inc()
        elif state == FENCED:
            self._fenced.inc()
        else:
            self._tenants.ended(tenant, state)
            if state == JobState.FAILED:
                self._failures.get(detail, self._failures[OTHER]).inc()

    def retry_delayed(self, model: str) -> None:  # noqa: ARG002
        with self._lock:
            self._delayed.inc()

    def batch_spoke_first(self, model: str, seconds: Sequence[float]) -> None:  # noqa: ARG002
        with self._lock:
            for waited in seconds:
                self._first.observe(waited)

    def engine_stepped(self, model: str, step: Any) -> None:  # noqa: ARG002 - the hook's signature
        now = self._clock()
        with self._lock:
            if step.batch_size:
                self._batch_size.observe(step.batch_size)
            generated = 0
            for piece in step.pieces:
                tokens = len(piece.token_ids)
                generated += tokens
                if piece.choice:
                    continue  # Texts of one job speak at once: the first one shows how fast they are.
                before = self._spoke.get(piece.ticket)
                self._spoke[piece.ticket] = now
                if before is not None and tokens:
                    self._between.observe((now - before) / tokens, tokens)
            if generated:
                self._tokens["completion"].inc(generated)
                self._window.add(generated)
            for outcome in step.outcomes:
                self._let_go(outcome)

    def _let_go(self, outcome: Any) -> None:
        self._spoke.pop(outcome.ticket, None)
        self._device.inc(outcome.device_seconds)
        self._tokens["prompt"].inc(outcome.usage.get("prompt_tokens", 0))
        accepted = outcome.usage.get("accepted_tokens", 0)
        self._drafts["accepted"].inc(accepted)
        self._drafts["rejected"].inc(outcome.usage.get("drafted_tokens", 0) - accepted)
        if (tenant := self._running.get(outcome.ticket)) is not None:
            self._tenants.used(tenant, outcome.usage, outcome.device_seconds)

    def engine_lost(self, model: str, reason: str) -> None:  # noqa: ARG002 - the hook's signature
        with self._lock:
            self._spoke.clear()
            self._restarts.inc()

    def breaker_changed(self, model: str, scope: str, old: str, new: str) -> None:  # noqa: ARG002
        if scope == "worker":
            self._own_breaker.set(1 if new == "open" else 0)
        if new == "open":
            with self._lock:
                self._opened[scope].inc()

    def tick(self) -> None:
        """Write down what happened since the last one."""
        self._rate.set(self._window.rate())
        with self._lock:
            self._ledger.write()
            self._batches.set(1 if self._running else 0)
