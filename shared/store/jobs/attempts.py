"""What workers do with jobs: claim them, write what their attempts bring, renew leases, sign off."""

import secrets
from collections.abc import Sequence
from typing import Any

import msgspec

from shared.domain.records import Append, Claim, Claimed, Finish, Write
from shared.domain.write_results import Beat, Committed, LeaseResult, WriteResult
from shared.store.breaker import BreakerPolicy
from shared.store.jobs.calls import ScriptCalls, parse_change
from shared.store.lua_constants import CLAIM_FIELDS

_pack = msgspec.msgpack.Encoder().encode
CLAIM_BUDGET = 2**53
MOST_CLAIMED = 1000
"""Jobs in one call: Lua's stack takes 8,000 values, and Redis serves nobody else meanwhile."""
CLAIM_VALUES = len(CLAIM_FIELDS) + 1
"""Of one job in the reply of claim.lua."""


class Attempts(ScriptCalls):
    """Every call names an attempt and does nothing for one that is fenced."""

    def claim(
        self,
        model: str,
        room: int,
        worker: str,
        *,
        drain: str = "",
        drain_ttl: float = 15.0,
        budget: float = CLAIM_BUDGET,
    ) -> Claimed:
        """Up to `room` jobs in fair order, each with a new attempt and a lease, `MOST_CLAIMED` at most.

        What is past its deadline ends on the way; behind some hundreds of these the next call goes on.
        With no room nothing is claimed; the answer still tells whether another worker must be rung.
        """
        # fmt: off
        reply = self._call(
            "claim", model, min(room, MOST_CLAIMED), int(budget), worker, drain, int(drain_ttl * 1000),
            int(self.lease * 1000), self.retention, secrets.token_hex(8),
        )
        # fmt: on
        now = int(reply[0])
        claims = [
            _claim(reply[start : start + CLAIM_VALUES], now)
            for start in range(5, len(reply), CLAIM_VALUES)
        ]
        return Claimed(
            claims, int(reply[1]), reply[2] / 1000, parse_change(reply[3]), ring=bool(reply[4])
        )

    def write(self, writes: Sequence[Write]) -> list[WriteResult]:
        """Carry out appends, finishes and requeues in order, in one round trip."""
        return self.commit(writes, None, "").results

    def commit(
        self, writes: Sequence[Write], policy: BreakerPolicy | None, worker: str
    ) -> Committed:
        """`write`, and count in the same call what the ends say of the model to its breaker."""
        values: list[Any] = []
        for item in writes:
            if isinstance(item, Append):
                values += [
                    "append",
                    item.id,
                    item.attempt,
                    item.seq,
                    item.kind,
                    item.data,
                    item.tokens,
                ]
            elif isinstance(item, Finish):
                values += ["finish", item.id, item.attempt, item.state]
                values += [item.output, item.error, item.usage, int(item.dead)]
                values += [item.verdict, item.seq, _pack(item.further) if item.further else b""]
            else:
                values += ["requeue", item.id, item.attempt, int(item.delay * 1000)]
                values += [item.charge, item.reason, round(item.device_seconds * 1e6)]
                values += [item.verdict, item.seq]
        policy_text = policy.packed if policy is not None else ""
        change, *results = self._call("write", self.retention, policy_text, worker, *values)
        return Committed([WriteResult(one) for one in results], parse_change(change))

    def host_lost(self, model: str, policy: BreakerPolicy, worker: str) -> tuple[str, str] | None:
        """Count for the model's breaker that an engine host was lost which held nobody.

        Returns what the breaker was and is, when it changed.
        """
        token = secrets.token_hex(8)
        return parse_change(self._call("breaker_lost", model, policy.packed, worker, token))

    def beat(
        self,
        model: str,
        worker: str,
        report: bytes,
        leases: Sequence[tuple[str, int]],
        *,
        drain: str = "",
        drain_ttl: float = 15.0,
    ) -> Beat:
        """Renew a worker's leases, its drain and its report (b"" signs the worker off).

        A lease is (job id, attempt).
        """
        flat = [part for pair in leases for part in pair]
        # fmt: off
        waiting, *results = self._call(
            "beat", model, worker, report, int(self.lease * 1000), drain, int(drain_ttl * 1000), *flat,
        )
        # fmt: on
        return Beat(waiting, [LeaseResult(one) for one in results])

    def park(self, attempts: Sequence[tuple[str, int]], *, parked: bool) -> None:
        """Say of (job id, attempt) pairs that their worker holds them without running them, or no longer.

        Should the worker die meanwhile, they are not charged a crash.
        """
        flat = [part for pair in attempts for part in pair]
        if flat:
            self._call("park", int(parked), *flat)

    def sign_off(
        self, model: str, worker: str, drain: str, *, force: bool = False
    ) -> tuple[bool, bool]:
        """Take a drain off the register unless jobs wait. Returns (signed off, doorbell wanted)."""
        done, ring = self._call("sign_off", model, worker, drain, int(force))
        return bool(done), bool(ring)


def _claim(row: list[bytes], now: int) -> Claim:
    return Claim(
        id=row[0].decode(),
        attempt=int(row[1]),
        tenant=row[2].decode(),
        request=row[12],
        deadline=max(0.0, (int(row[3]) - now) / 1000),
        created_ms=int(row[4]),
        claimed_ms=now,
        failures=int(row[5] or 0),
        crashes=int(row[6] or 0),
        traceparent=row[7].decode(),
        request_id=row[8].decode(),
        device_seconds=int(row[9] or 0) / 1e6,
        estimate_error=(now - int(row[10])) / 1000 if row[10] and int(row[1]) == 1 else None,
        priority=row[11].decode(),
    )
