"""API keys: what a key may do."""

from enum import StrEnum


class Scope(StrEnum):
    """What a key may do. `admin` includes the others."""

    JOBS_READ = "jobs:read"
    JOBS_WRITE = "jobs:write"
    METRICS = "metrics"
    ADMIN = "admin"
