"""What the routes of this dialect answer, for the OpenAPI document."""

from typing import Any, Literal

from pydantic import BaseModel, Field


class PredictionUrls(BaseModel):
    """All absolute; `stream` opens without a token."""

    get: str
    cancel: str
    stream: str


class Prediction(BaseModel):
    """A job as Replicate's clients know it. `id` is the job's."""

    id: str
    model: str
    version: str
    status: Literal["starting", "processing", "succeeded", "failed", "canceled"]
    input: dict[str, Any] | None = Field(
        description="In the answer to the request that made it; null elsewhere."
    )
    output: Any = Field(description="A list of strings where it is text.")
    error: str | None
    logs: str
    metrics: dict[str, float]
    source: Literal["api"]
    created_at: str
    started_at: str | None
    completed_at: str | None
    urls: PredictionUrls


class _Page(BaseModel):
    next: str | None = Field(description="The URL of the next page.")
    previous: None


class PredictionPage(_Page):
    results: list[Prediction]


class ModelVersion(BaseModel):
    """The only version of a model."""

    id: str
    created_at: str = Field(description="When the catalogue was written.")
    cog_version: str
    openapi_schema: dict[str, Any] = Field(
        description="What `input` may hold and what `output` is; empty in listings of models."
    )


class VersionPage(_Page):
    results: list[ModelVersion]


class ReplicateModel(BaseModel):
    """A model of the catalogue as Replicate's clients know it."""

    url: str
    owner: str
    name: str
    description: str
    visibility: Literal["private"]
    github_url: None
    paper_url: None
    license_url: None
    run_count: int = Field(description="Not counted: 0.")
    cover_image_url: None
    default_example: None
    latest_version: ModelVersion


class Account(BaseModel):
    """Whose key it is: a tenant."""

    type: Literal["organization"]
    username: str
    name: str
    github_url: None


class WebhookSecretKey(BaseModel):
    key: str = Field(
        description="`whsec_` and base64, as every library of Standard Webhooks takes it."
    )


class Configuration(BaseModel):
    hardware: str
    min_instances: int
    max_instances: int


class Release(BaseModel):
    number: int
    model: str
    version: str
    created_at: str
    created_by: Account
    configuration: Configuration


class Deployment(BaseModel):
    """Every model is deployed under its own name. Instances are its live workers."""

    owner: str
    name: str
    current_release: Release


class DeploymentPage(_Page):
    results: list[Deployment]
