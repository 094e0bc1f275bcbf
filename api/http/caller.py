"""Who calls, and what a route asks of its callers."""

from dataclasses import dataclass
from enum import StrEnum

from shared.store.api_keys import Scope
from shared.store.jobs import ANY_TENANT

DEFAULT_TENANT = "default"


class Access(StrEnum):
    """What a route asks for. `METRICS`: a token of the operator's tenant, or the one for metrics alone."""

    OPEN = "open"
    TOKEN = "token"
    TICKET = "ticket"
    METRICS = "metrics"


@dataclass(frozen=True, slots=True)
class Client:
    """Who calls. `scopes` are values of `Scope`; a limit that is None is the server's default."""

    key_id: str
    tenant: str
    scopes: frozenset[str]
    rpm: int | None = None
    rph: int | None = None
    max_queued: int | None = None
    max_bytes: int | None = None

    def may(self, scope: Scope) -> bool:
        return scope in self.scopes or Scope.ADMIN in self.scopes

    @property
    def operates(self) -> bool:
        """Whether this is the server's own administrator, to whom what all tenants share belongs."""
        return Scope.ADMIN in self.scopes and self.tenant == DEFAULT_TENANT


DEFAULT_CLIENT = Client("default", DEFAULT_TENANT, frozenset(Scope))
TICKET_CLIENT = Client("ticket", ANY_TENANT, frozenset({Scope.JOBS_READ}))
"""A ticket names the job itself, whoever owns it."""
SCRAPER = Client("metrics", DEFAULT_TENANT, frozenset({Scope.METRICS}))
"""Who has the token of `METRICS_TOKEN`, which opens nothing else."""
