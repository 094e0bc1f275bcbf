"""What a model's worker says of its jobs and its engine."""

import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from typing import Any

from shared.errors import PROBLEMS
from shared.hooks import Hooks
from shared.states import TERMINAL, JobState
from shared.telemetry.instruments import Instruments
from shared.telemetry.tenants import DIRECTIONS, TenantSeries
from shared.telemetry.window import Window

RETRIED = "retried"
FENCED = "fenced"
ENDS = (*sorted(TERMINAL), RETRIED, FENCED)
OTHER = "other"
CODES = (*sorted(PROBLEMS), OTHER)
REASONS = (*sorted(PROBLEMS), "engine_lost", "log_cut", "worker_stopping", OTHER)
BREAKER_SCOPES = ("model", "worker")


class JobMetrics(Hooks):
    """Metrics of one model. What happens a token or a job is gathered and written once a step or batch."""

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

    def batch_claimed(self, model: str, claims: Sequence[Any], seconds: float) -> None:  # noqa: ARG002
        waits: list[float] = []
        by_tenant: dict[str, float] = defaultdict(float)
        for claim in claims:
            if claim.attempt == 1:
                waited = (claim.claimed_ms - claim.created_ms) / 1000
                waits.append(waited)
                by_tenant[claim.tenant] += waited
        self._waits.observe_all(waits)
        for tenant, waited in by_tenant.items():
            self._tenants.waited(tenant, waited)
        with self._lock:
            if not self._running:
                self._batches.set(1)
            self._running |= {f"{claim.id}/{claim.attempt}": claim.tenant for claim in claims}

    def estimate_error(self, model: str, seconds: float) -> None:  # noqa: ARG002
        self._estimates["late" if seconds > 0 else "early"].observe(abs(seconds))

    def batch_ended(self, model: str, ends: Sequence[tuple[Any, str, float, str]]) -> None:  # noqa: ARG002
        by_tenant = Counter((claim.tenant, state) for claim, state, _, _ in ends)
        for (tenant, state), times in by_tenant.items():
            self._ends[state].inc(times)
            if state not in (RETRIED, FENCED):
                self._tenants.ended(tenant, state, times)
        self._runs.observe_all([seconds for _, _, seconds, _ in ends])
        for _, state, _, detail in ends:
            if state == RETRIED:
                self._reasons.get(detail, self._reasons[OTHER]).inc()
            elif state == FENCED:
                self._fenced.inc()
            elif state == JobState.FAILED:
                self._failures.get(detail, self._failures[OTHER]).inc()
        with self._lock:
            for claim, _, _, _ in ends:
                self._running.pop(f"{claim.id}/{claim.attempt}", None)
            if not self._running:
                self._batches.set(0)

    def retry_delayed(self, model: str) -> None:  # noqa: ARG002
        self._delayed.inc()

    def batch_spoke_first(self, model: str, seconds: Sequence[float]) -> None:  # noqa: ARG002
        self._first.observe_all(seconds)

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
        device: dict[str | None, float] = defaultdict(float)
        tokens: dict[str | None, Counter[str]] = defaultdict(Counter)
        for outcome in outcomes:
            self._spoke.pop(outcome.ticket, None)
            tenant = self._running.get(outcome.ticket)
            device[tenant] += outcome.device_seconds
            for direction in DIRECTIONS:
                if count := outcome.usage.get(f"{direction}_tokens"):
                    tokens[tenant][direction] += count
        self._tokens["prompt"].inc(sum(counts["prompt"] for counts in tokens.values()))
        self._device.inc(sum(device.values()))
        for tenant, seconds in device.items():
            if tenant is not None:
                self._tenants.used(tenant, tokens[tenant], seconds)

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
