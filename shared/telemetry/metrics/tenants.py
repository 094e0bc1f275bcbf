"""What a worker's tenants use. Tenants are those of keys that an operator made: nobody else can make one."""

from collections.abc import Mapping

from shared.domain.states import TERMINAL
from shared.telemetry.metrics.kept import KeptCounter, Ledger

MOST = 100
"""Tenants that a process tells apart; those that it meets later are `OTHERS`."""
OTHERS = "others"
DEFAULT = "default"
DIRECTIONS = ("prompt", "completion")


class TenantSeries:
    """Counts by tenant, in the ledger of an observer."""

    def __init__(self, ledger: Ledger, most: int = MOST) -> None:
        self._ledger = ledger
        self._most = most
        self._known = {DEFAULT: _Tenant(ledger, DEFAULT)}
        self._others = _Tenant(ledger, OTHERS)

    def waited(self, tenant: str, seconds: float) -> None:
        """A job of this tenant had its first claim, `seconds` after it was made."""
        self._of(tenant).queue.inc(seconds)

    def ended(self, tenant: str, state: str) -> None:
        """A job of this tenant ended in a terminal state."""
        self._of(tenant).ends[state].inc()

    def used(self, tenant: str, usage: Mapping[str, int], device_seconds: float) -> None:
        """The engine let go of a job of this tenant; `usage` is what it said of it."""
        series = self._of(tenant)
        series.device.inc(device_seconds)
        for direction in DIRECTIONS:
            series.tokens[direction].inc(usage.get(f"{direction}_tokens", 0))

    def _of(self, tenant: str) -> "_Tenant":
        known = self._known.get(tenant)
        if known is None:
            if len(self._known) >= self._most:
                return self._others
            known = self._known[tenant] = _Tenant(self._ledger, tenant)
        return known


class _Tenant:
    """One tenant's series; all of them exist from now on."""

    def __init__(self, ledger: Ledger, name: str) -> None:
        def by(metric: str, values: tuple[str, ...]) -> dict[str, KeptCounter]:
            return {value: ledger.counter(metric, name, value) for value in values}

        self.ends = by("inference_tenant_jobs_total", tuple(sorted(TERMINAL)))
        self.tokens = by("inference_tenant_tokens_total", DIRECTIONS)
        self.device = ledger.counter("inference_tenant_device_seconds_total", name)
        self.queue = ledger.counter("inference_tenant_queue_seconds_total", name)
