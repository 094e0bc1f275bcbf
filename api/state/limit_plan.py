"""Which rate limits hold for which requests: pure, made from the settings."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import lru_cache

from api.client_address import Network
from shared.domain.quotas import Charge, Policy
from shared.settings import Settings
from shared.store.rate_limits import RateLimiter

OTHERS_PER_SUBMISSION = 10
HOUR = 3600
MOST_CHARGES = 4096
"""Combinations of an endpoint and a key's own limits that are kept made."""


class Counted(StrEnum):
    """Under what a route's requests count."""

    SUBMIT = "submit"
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class Plan:
    """The policies of this deployment. Limits of requests are per minute, whatever `window` they count in."""

    rpm: int
    rph: int | None = None
    window: int = 60
    burst: int = 0
    other_rpm: int | None = None
    tpm: int | None = None
    endpoints: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def of(cls, settings: Settings) -> "Plan":
        return cls(
            rpm=settings.rate_rpm,
            rph=settings.rate_rph,
            window=settings.rate_window,
            burst=settings.rate_burst,
            other_rpm=settings.rate_other_rpm,
            tpm=settings.rate_tpm,
            endpoints=settings.rate_endpoints,
        )

    def policies(
        self, endpoint: str, counted: Counted, rpm: int | None, rph: int | None
    ) -> list[Policy]:
        """What a request to `endpoint` ("GET /v1/jobs") is charged to; a limit of 0 is none.

        `rpm` and `rph` are the caller's own, None where the settings' hold.
        """
        rpm = self.rpm if rpm is None else rpm
        own = self.endpoints.get(endpoint)
        if own is not None:
            found = [self._minutely(endpoint, own)]
        elif counted is Counted.OTHER:
            per_minute = OTHERS_PER_SUBMISSION * rpm if self.other_rpm is None else self.other_rpm
            found = [self._minutely(Counted.OTHER, per_minute)]
        else:
            found = [self._minutely(Counted.SUBMIT, rpm, self.burst)]
        if counted is Counted.SUBMIT:
            found.append(Policy("submit-hour", self._hourly(rpm, rph), HOUR))
        return [policy for policy in found if policy.quota]

    def strangers(self) -> list[Policy]:
        """What a request without a valid token is charged to."""
        policy = self._minutely("unauthorized", self.rpm)
        return [policy] if policy.quota else []

    def tokens(self) -> list[Policy]:
        """What the tokens of a submission are charged to."""
        return [Policy("tokens", self.tpm, 60, "tokens")] if self.tpm else []

    def all(self, rpm: int | None, rph: int | None) -> list[Policy]:
        """Every policy that anybody may have been charged to."""
        own = [self._minutely(endpoint, rpm) for endpoint, rpm in self.endpoints.items() if rpm]
        submit = self.policies("", Counted.SUBMIT, rpm, rph)
        other = self.policies("", Counted.OTHER, rpm, rph)
        return [*submit, *other, *own, *self.tokens(), *self.strangers()]

    def _minutely(self, name: str, rpm: int, burst: int = 0) -> Policy:
        quota = max(1, rpm * self.window // 60) + burst if rpm else 0
        return Policy(name, quota, self.window)

    def _hourly(self, rpm: int, rph: int | None) -> int:
        """A burst is only lent: where no limit an hour is set, the one a minute holds over the hour."""
        rph = self.rph if rph is None else rph
        return (60 * rpm if self.burst else 0) if rph is None else rph


class Limits:
    """What one app limits with.

    `charges(endpoint, counted, rpm, rph)` is what a request is charged: one unit of each of `Plan.policies`.
    """

    def __init__(self, plan: Plan, limiter: RateLimiter, proxies: Sequence[Network] = ()) -> None:
        self.plan = plan
        self.limiter = limiter
        self.proxies = proxies
        self.charges = lru_cache(maxsize=MOST_CHARGES)(self._charges)

    def _charges(
        self, endpoint: str, counted: Counted, rpm: int | None, rph: int | None
    ) -> tuple[Charge, ...]:
        return tuple(map(Charge, self.plan.policies(endpoint, counted, rpm, rph)))
