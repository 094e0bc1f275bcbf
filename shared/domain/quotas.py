"""Rate limits as values: what a request takes of its client's quotas, and how the client stands afterwards.

Pure. `shared.store.rate_limits` counts them; docs/limits.md is for users.
"""

from typing import Literal

import msgspec


class Policy(msgspec.Struct, frozen=True):
    """At most `quota` units in any `seconds`."""

    name: str
    quota: int
    seconds: int
    unit: Literal["requests", "tokens"] = "requests"


class Charge(msgspec.Struct, frozen=True):
    """What a request takes of a policy. More than the quota counts as the quota, so that it can pass."""

    policy: Policy
    units: int = 1

    @property
    def cost(self) -> int:
        return min(self.units, self.policy.quota)


class ClientCharges(msgspec.Struct, frozen=True):
    """What a request takes of the quotas of `client`: all of it, or none where one charge does not fit."""

    client: str
    charges: tuple[Charge, ...]


class QuotaStatus(msgspec.Struct, frozen=True):
    """How a client stands with a policy after a decision.

    `wait_ms`: until the charge would fit when it was refused, else until more quota comes free, 0 when all
    of it is free. `refused` counts since the client was last idle for a whole window.
    """

    policy: Policy
    used: int
    wait_ms: int
    refused: int

    @property
    def remaining(self) -> int:
        return max(0, self.policy.quota - self.used)


class Decision(msgspec.Struct, frozen=True):
    """What became of a request's charges. `refused` is the policy that it has to wait for longest, None
    where all of them were taken.
    """

    quota_status: tuple[QuotaStatus, ...]
    refused: QuotaStatus | None = None
