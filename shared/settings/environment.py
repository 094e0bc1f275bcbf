"""Settings from the environment: frozen, checked at start; an error names variable and value."""

import os
import re
import ssl
from functools import cached_property
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ByteSize,
    ConfigDict,
    Field,
    SecretStr,
    StringConstraints,
    ValidationError,
    field_validator,
    model_validator,
)

from shared.domain.errors import ConfigError
from shared.domain.models.catalog import Catalog
from shared.domain.models.catalog_file import load_catalog
from shared.redis.address import RedisAddress, with_ca_file
from shared.settings.values import (
    Origin,
    PublicUrl,
    TraceUrl,
    endpoint_limits,
    networks,
    origins,
    storage,
)
from shared.webhooks.policy import Allowed
from shared.webhooks.schedule import Schedule
from shared.webhooks.signing import Keyring, parse_secrets

SECRETS = frozenset(
    {"TRUTHGPT_API_TOKEN", "TRUTHGPT_KEY_SECRET", "WEBHOOK_HMAC_SECRET", "METRICS_TOKEN"}
)
"""Variables whose values no message shows."""


class Settings(BaseModel):
    """All settings; docs/configuration.md lists them with their defaults.

    Code may give them by their fields' names, the environment by the documented ones alone: `MODEL` and
    `api_token` are another program's. What code gives goes over the environment.
    """

    model_config = ConfigDict(
        frozen=True, extra="ignore", populate_by_name=True, validate_default=True
    )

    @model_validator(mode="before")
    @classmethod
    def _with_environment(cls, given: dict[str, Any]) -> dict[str, Any]:
        """`given`, and from the environment what is not in it.

        An empty variable is one that is not set: so Compose writes `REDIS_URL=${REDIS_URL}` where there is
        none.
        """
        left = [
            str(field.alias)
            for name, field in cls.model_fields.items()
            if name not in given and field.alias not in given
        ]
        return {**{name: text for name in left if (text := os.environ.get(name))}, **given}

    api_token: str | None = Field(
        default=None, alias="TRUTHGPT_API_TOKEN", min_length=16, repr=False
    )
    api_key_secret: str | None = Field(
        default=None, alias="TRUTHGPT_KEY_SECRET", min_length=16, repr=False
    )
    config: Path | None = Field(default=None, alias="TRUTHGPT_CONFIG")
    state_dir: Path = Field(default=Path("~/.truthgpt"), alias="TRUTHGPT_STATE_DIR")
    key_prefix: str = Field(
        default="truthgpt", alias="TRUTHGPT_KEY_PREFIX", pattern=r"^[A-Za-z0-9_-]{1,64}$"
    )
    model: str | None = Field(default=None, alias="TRUTHGPT_MODEL")
    redis_url: str | None = Field(default=None, alias="REDIS_URL", repr=False)
    redis_ca_file: Path | None = Field(default=None, alias="REDIS_CA_FILE")
    port: int = Field(default=8080, alias="PORT", ge=0, le=65535)
    batch_max_size: int | None = Field(default=None, alias="BATCH_MAX_SIZE", ge=1, le=4096)
    batch_flush_timeout_ms: float | None = Field(
        default=None, alias="BATCH_FLUSH_TIMEOUT_MS", ge=0, le=60_000
    )
    breaker_threshold: int | None = Field(
        default=None, alias="CIRCUIT_BREAKER_FAILURE_THRESHOLD", ge=1, le=1_000_000
    )
    breaker_timeout: float | None = Field(
        default=None, alias="CIRCUIT_BREAKER_TIMEOUT_SEC", gt=0, le=86_400
    )
    max_body_bytes: int = Field(default=2 * 1024 * 1024, alias="MAX_BODY_BYTES", ge=1024)
    max_body_values: int = Field(default=32_768, alias="MAX_BODY_VALUES", ge=1024, le=10**7)
    body_timeout: float = Field(default=30.0, alias="BODY_TIMEOUT_SEC", gt=0, le=3600)
    file_storage: Annotated[str | None, AfterValidator(storage)] = Field(
        default=None, alias="FILE_STORAGE"
    )
    file_max_bytes: ByteSize = Field(
        default=ByteSize(512 * 1024 * 1024), alias="FILE_MAX_BYTES", ge=1024
    )
    file_timeout: float = Field(default=900.0, alias="FILE_TIMEOUT_SEC", gt=0, le=24 * 3600)
    file_retention: int = Field(
        default=30 * 24 * 3600, alias="FILE_RETENTION_SEC", ge=3600, le=30 * 24 * 3600
    )
    file_tenant_bytes: ByteSize = Field(
        default=ByteSize(10 * 1024**3), alias="FILE_TENANT_BYTES", ge=1024
    )
    file_tenant_files: int = Field(default=10_000, alias="FILE_TENANT_FILES", ge=1, le=1_000_000)
    file_total_bytes: ByteSize = Field(
        default=ByteSize(100 * 1024**3), alias="FILE_TOTAL_BYTES", ge=1024
    )
    batch_jobs: int = Field(default=512, alias="BATCH_JOBS", ge=1, le=100_000)
    batch_most_open: int = Field(default=100, alias="BATCH_TENANT_OPEN", ge=1, le=10_000)
    batch_retention: int = Field(
        default=30 * 24 * 3600, alias="BATCH_RETENTION_SEC", ge=3600, le=365 * 24 * 3600
    )
    public_url: PublicUrl | None = Field(default=None, alias="TRUTHGPT_PUBLIC_URL")
    keepalive: float = Field(default=5.0, alias="KEEPALIVE_SEC", ge=1, le=3600)
    cors_origins: Annotated[tuple[Origin, ...], BeforeValidator(origins)] = Field(
        default=(), alias="CORS_ORIGINS"
    )
    redis_timeout: float = Field(default=1.5, alias="REDIS_TIMEOUT_SEC", gt=0, le=60)
    job_retention: int = Field(default=24 * 3600, alias="JOB_RETENTION_SEC", ge=1)
    lease: float = Field(default=15.0, alias="JOB_LEASE_SEC", ge=0.5, le=600)
    engine_memory_limit: ByteSize | None = Field(
        default=None, alias="ENGINE_MEMORY_LIMIT", ge=64 * 1024 * 1024
    )
    max_output_bytes: ByteSize = Field(
        default=ByteSize(64 * 1024 * 1024), alias="MAX_OUTPUT_BYTES", ge=1024
    )
    drain_time: float = Field(default=20.0, alias="WORKER_DRAIN_SEC", ge=0, le=3600)
    broker_visibility: int = Field(default=3600, alias="BROKER_VISIBILITY_SEC", ge=1)
    stream_grace: float = Field(default=10.0, alias="STREAM_GRACE_SEC", ge=0, le=3600)
    enable_metrics: bool = Field(default=True, alias="ENABLE_METRICS")
    metrics_token: Annotated[
        Annotated[str, StringConstraints(min_length=16)] | None,
        BeforeValidator(lambda v: v or None),
    ] = Field(default=None, alias="METRICS_TOKEN", repr=False)
    metrics_host: str = Field(default="127.0.0.1", alias="METRICS_HOST")
    metrics_port: int | None = Field(default=None, alias="METRICS_PORT", ge=1, le=65535)
    rate_rpm: int = Field(default=600, alias="RATE_LIMIT_RPM", ge=0, le=10**9)
    rate_rph: int | None = Field(default=None, alias="RATE_LIMIT_RPH", ge=0, le=10**9)
    rate_window: int = Field(default=60, alias="RATE_LIMIT_WINDOW_SEC", ge=1, le=3600)
    rate_burst: int = Field(default=0, alias="RATE_LIMIT_BURST", ge=0, le=10**9)
    rate_other_rpm: int | None = Field(default=None, alias="RATE_LIMIT_OTHER_RPM", ge=0, le=10**9)
    rate_tpm: int | None = Field(default=None, alias="RATE_LIMIT_TPM", ge=0, le=10**12)
    rate_endpoints: Annotated[dict[str, int], BeforeValidator(endpoint_limits)] = Field(
        default={}, alias="RATE_LIMIT_ENDPOINTS"
    )
    trusted_proxies: Annotated[tuple[IPv4Network | IPv6Network, ...], BeforeValidator(networks)] = (
        Field(default=(), alias="TRUSTED_PROXIES")
    )
    tenant_max_queued: int | None = Field(default=None, alias="TENANT_MAX_QUEUED", ge=1)
    tenant_max_bytes: ByteSize | None = Field(default=None, alias="TENANT_MAX_BYTES", ge=0)
    embedded_redis_maxmemory: ByteSize | None = Field(
        default=None, alias="EMBEDDED_REDIS_MAXMEMORY", ge=64 * 1024 * 1024
    )
    webhook_secret: SecretStr | None = Field(default=None, alias="WEBHOOK_HMAC_SECRET")
    webhook_max_body_bytes: int = Field(default=256 * 1024, alias="WEBHOOK_MAX_BODY_BYTES", ge=1024)
    webhook_window: int = Field(default=300, alias="WEBHOOK_TIMESTAMP_WINDOW", ge=1, le=86_400)
    webhook_allow: str = Field(default="", alias="WEBHOOK_ALLOW_HOSTS")
    webhook_timeout: float = Field(default=15.0, alias="WEBHOOK_TIMEOUT_SEC", gt=0, le=60)
    webhook_retry_first: float = Field(default=5.0, alias="WEBHOOK_RETRY_FIRST_SEC", gt=0, le=3600)
    webhook_retry_longest: float = Field(
        default=3 * 3600.0, alias="WEBHOOK_RETRY_LONGEST_SEC", gt=0, le=86_400
    )
    webhook_retry_span: float = Field(
        default=24 * 3600.0, alias="WEBHOOK_RETRY_SPAN_SEC", ge=0, le=3 * 86_400
    )
    webhook_concurrency: int = Field(default=64, alias="WEBHOOK_CONCURRENCY", ge=1, le=1024)
    webhook_max_pending: int = Field(default=100_000, alias="WEBHOOK_MAX_PENDING", ge=1)
    cache_backend: Literal["redis", "memory"] = Field(default="redis", alias="CACHE_BACKEND")
    cache_max_size: int = Field(default=10_000, alias="CACHE_MAX_SIZE", ge=0, le=10_000_000)
    cache_max_bytes: ByteSize = Field(
        default=ByteSize(64 * 1024 * 1024), alias="CACHE_MAX_BYTES", ge=1024
    )
    cache_ttl: float = Field(default=3600, alias="CACHE_DEFAULT_TTL", ge=1, le=30 * 86_400)
    enable_structured_logging: bool = Field(default=True, alias="ENABLE_STRUCTURED_LOGGING")
    log_level: str = Field(
        default="INFO", alias="LOG_LEVEL", pattern=r"^(DEBUG|INFO|WARNING|ERROR)$"
    )
    log_levels: str = Field(
        default="",
        alias="LOG_LEVELS",
        pattern=r"^([\w.]+=(DEBUG|INFO|WARNING|ERROR)(,[\w.]+=(DEBUG|INFO|WARNING|ERROR))*)?$",
    )
    enable_tracing: bool = Field(default=True, alias="ENABLE_TRACING")
    otlp_endpoint: str = Field(
        default="http://localhost:4317",
        alias="OTLP_ENDPOINT",
        pattern=r"^(http|grpc)s?://[^/@\s?#]+(/[^\s?#]*)?$",
    )
    trace_sample_ratio: float = Field(default=1.0, alias="TRACE_SAMPLE_RATIO", ge=0, le=1)
    trace_max_per_second: float = Field(default=5.0, alias="TRACE_MAX_PER_SECOND", gt=0)
    trace_url: TraceUrl | None = Field(default=None, alias="TRACE_URL")
    prometheus_url: PublicUrl | None = Field(default=None, alias="PROMETHEUS_URL")
    console_shows_tenants: bool = Field(default=False, alias="CONSOLE_SHOW_TENANTS")
    keep_requests: bool = Field(default=False, alias="JOB_KEEP_REQUEST")
    log_prompts: bool = Field(default=False, alias="LOG_PROMPTS")

    @property
    def levels(self) -> dict[str, str]:
        """Levels of single loggers, by their names."""
        pairs = (pair.partition("=") for pair in self.log_levels.split(",") if pair)
        return {name: level for name, _, level in pairs}

    @field_validator("redis_url")
    @classmethod
    def _readable_redis_url(cls, value: str | None) -> str | None:
        if value:
            RedisAddress.parse(value)
        return value

    @field_validator("redis_ca_file")
    @classmethod
    def _readable_ca_file(cls, value: Path | None) -> Path | None:
        if value is not None:
            try:
                ssl.create_default_context(cafile=value)
            except OSError as error:
                raise ValueError(f"it is no file of certificates (PEM): {error}") from None
        return value

    @field_validator("webhook_secret")
    @classmethod
    def _readable_secrets(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None:
            parse_secrets(value.get_secret_value())
        return value

    @field_validator("webhook_allow")
    @classmethod
    def _readable_allow_list(cls, value: str) -> str:
        Allowed.parse(value)
        return value

    @cached_property
    def keyring(self) -> Keyring:
        """What webhooks are signed with; empty where no secret is set."""
        secret = self.webhook_secret
        return Keyring(parse_secrets(secret.get_secret_value()) if secret is not None else ())

    @cached_property
    def webhook_schedule(self) -> Schedule:
        return Schedule(
            self.webhook_retry_first, self.webhook_retry_longest, self.webhook_retry_span
        )

    @cached_property
    def catalog(self) -> Catalog:
        """The models; `BATCH_*` and `CIRCUIT_BREAKER_*` go over the catalogue's values where they are set."""
        catalog = load_catalog(self.config)
        batch = _given(max_size=self.batch_max_size, flush_timeout_ms=self.batch_flush_timeout_ms)
        breaker = _given(failure_threshold=self.breaker_threshold, timeout_sec=self.breaker_timeout)
        models = {
            spec.name: spec.model_copy(
                update={
                    "batch": spec.batch.model_copy(update=batch),
                    "breaker": spec.breaker.model_copy(update=breaker),
                }
            )
            for spec in catalog
        }
        return Catalog(models, catalog.source)

    def require_redis(self) -> str:
        """The Redis URL, with the CA file of `REDIS_CA_FILE`. Raises `ConfigError` where there is none."""
        if not self.redis_url:
            raise ConfigError("REDIS_URL: not set; `truthgpt up` starts a Redis of its own")
        return with_ca_file(self.redis_url, self.redis_ca_file)


def _given(**values: float | None) -> dict[str, float]:
    return {name: value for name, value in values.items() if value is not None}


def load_settings(**overrides: Any) -> Settings:
    """Read and check the settings. Raises `ConfigError` naming the variable and the value."""
    try:
        return Settings(**overrides)
    except ValidationError as error:
        row = error.errors(include_url=False)[0]
        name = row["loc"][0] if row["loc"] else "settings"
        secret = name in SECRETS or (name == "REDIS_URL" and re.search("@|password", row["input"]))
        shown = "<hidden>" if secret else repr(row["input"])
        raise ConfigError(f"{name}: {row['msg']}, got {shown}") from None
