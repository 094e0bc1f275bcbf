"""What a worker's tenants use. Tenants are those of keys that an operator made: nobody else can make one."""

import threading
from collections.abc import Mapping
from typing import Any

from shared.states import TERMINAL
from shared.telemetry.instruments import Instruments

MOST = 100
"""Tenants that a process tells apart; those that it meets later are `OTHERS`."""
OTHERS = "others"
DEFAULT = "default"
DIRECTIONS = ("prompt", "completion")


class TenantSeries:
    """Counts by tenant. Safe to share between threads."""

    def __init__(self, instruments: Instruments, most: int = MOST) -> None:
        self._instruments = instruments
        self._most = most
        self._lock = threading.Lock()
        self._known: dict[str, _Tenant] = {}
        self._of(DEFAULT)
        self._others = _Tenant(instruments, OTHERS)

    def waited(self, tenant: str, seconds: float) -> None:
        """Jobs of this tenant had their first claim, `seconds` in all after they were made."""
        self._of(tenant).queue.inc(seconds)

    def ended(self, tenant: str, state: str, times: int) -> None:
        """So many jobs of this tenant ended in a terminal state."""
        self._of(tenant).ends[state].inc(times)

    def used(self, tenant: str, tokens: Mapping[str, int], device_seconds: float) -> None:
        """The engine let go of jobs of this tenant; `tokens` are by direction."""
        series = self._of(tenant)
        series.device.inc(device_seconds)
        for direction, count in tokens.items():
            series.tokens[direction].inc(count)

    def _of(self, tenant: str) -> "_Tenant":
        known = self._known.get(tenant)
        if known is not None:
            return known
        with self._lock:
            if tenant not in self._known and len(self._known) >= self._most:
                return self._others
            return self._known.setdefault(tenant, _Tenant(self._instruments, tenant))


class _Tenant:
    """One tenant's series; all of them exist from now on."""

    def __init__(self, instruments: Instruments, name: str) -> None:
        def by(metric: str, values: tuple[str, ...]) -> dict[str, Any]:
            return {value: instruments.child(metric, name, value) for value in values}

        self.ends = by("inference_tenant_jobs_total", tuple(sorted(TERMINAL)))
        self.tokens = by("inference_tenant_tokens_total", DIRECTIONS)
        self.device = instruments.child("inference_tenant_device_seconds_total", name)
        self.queue = instruments.child("inference_tenant_queue_seconds_total", name)
