"""The routes of Replicate's API for models, their versions and deployments, and the caller's account."""

from typing import Any

from api.http.answers import document, links
from api.http.operations import Answer, Operations, Parameter
from api.http.reply import Reply
from api.http.request_context import RequestContext
from api.replicate import examples, models
from api.replicate.routes import NAME, OWNER
from api.replicate.schemas import (
    Account,
    Deployment,
    DeploymentPage,
    ModelVersion,
    ReplicateModel,
    VersionPage,
    WebhookSecretKey,
)
from shared.domain.models.catalog import ModelSpec
from shared.domain.predictions import OWNER as OWNER_NAME
from shared.domain.predictions import full_name, version_id
from shared.store.api_keys import Scope

VERSION = Parameter(
    "version",
    "path",
    "The version's `id`.",
    {"type": "string", "pattern": "^[0-9a-f]{64}$"},
    examples.VERSION["id"],
)

replicate_models = Operations("replicate_models", __name__, tag="replicate")


@replicate_models.operation(
    "GET",
    "/v1/models/{owner}/{name}",
    parameters=(OWNER, NAME),
    answers={200: Answer("The model.", ReplicateModel, examples.MODEL)},
    problems=("unknown_model",),
)
def get_replicate_model(here: RequestContext, owner: str, name: str) -> Reply:
    """Read a model as Replicate's

    With the schemas of its version, which its engine makes.
    """
    catalog = here.services.catalog
    spec = models.find(catalog, owner, name)
    return document(models.model(catalog, spec, links(here).base, described=True))


@replicate_models.operation(
    "GET",
    "/v1/models/{owner}/{name}/versions",
    parameters=(OWNER, NAME),
    answers={200: Answer("The only version.", VersionPage, examples.VERSIONS)},
    problems=("unknown_model",),
)
def list_versions(here: RequestContext, owner: str, name: str) -> Reply:
    """List the versions of a model

    There is one, which is the model as it is now.
    """
    catalog = here.services.catalog
    found = models.version(catalog, models.find(catalog, owner, name), described=True)
    return document(_page([found]))


@replicate_models.operation(
    "GET",
    "/v1/models/{owner}/{name}/versions/{version}",
    parameters=(OWNER, NAME, VERSION),
    answers={200: Answer("The version.", ModelVersion, examples.VERSION)},
    problems=("unknown_model",),
)
def get_version(here: RequestContext, owner: str, name: str, version: str) -> Reply:
    """Read a version of a model

    With an OpenAPI document whose schemas `Input` and `Output` are those of its predictions.
    """
    catalog = here.services.catalog
    spec = models.find(catalog, owner, name)
    if version != version_id(spec.name):
        raise models.unknown_version(version)
    return document(models.version(catalog, spec, described=True))


@replicate_models.operation(
    "GET",
    "/v1/deployments",
    answers={200: Answer("One a model.", DeploymentPage, examples.DEPLOYMENTS)},
)
def list_deployments(here: RequestContext) -> Reply:
    """List the deployments

    Every model is deployed under its own name.
    """
    return document(_page([_deployment(here, spec) for spec in here.services.catalog]))


@replicate_models.operation(
    "GET",
    "/v1/deployments/{owner}/{name}",
    parameters=(OWNER, NAME),
    answers={200: Answer("The deployment.", Deployment, examples.DEPLOYMENT)},
    problems=("unknown_model",),
)
def get_deployment(here: RequestContext, owner: str, name: str) -> Reply:
    """Read a deployment

    That of the model of this name.
    """
    return document(_deployment(here, models.find(here.services.catalog, owner, name)))


@replicate_models.operation(
    "GET",
    "/v1/account",
    answers={200: Answer("The tenant.", Account, examples.ACCOUNT)},
)
def get_account(here: RequestContext) -> Reply:
    """Tell whose key it is

    An account is a tenant here.
    """
    return document(_account(here))


@replicate_models.operation(
    "GET",
    "/v1/webhooks/default/secret",
    scope=Scope.JOBS_WRITE,
    answers={200: Answer("The secret.", WebhookSecretKey, {"key": "whsec_…"})},
)
def get_default_secret(here: RequestContext) -> Reply:
    """Read the secret that signs webhooks of predictions

    The tenant's newest one; a tenant without one of its own has one that lasts as long as the server's.
    """
    return document({"key": here.services.webhook_secrets.told(here.caller.tenant)})


def _account(here: RequestContext) -> dict[str, Any]:
    tenant = here.caller.tenant
    return {"type": "organization", "username": tenant, "name": tenant, "github_url": None}


def _deployment(here: RequestContext, spec: ModelSpec) -> dict[str, Any]:
    workers = len(here.services.store.status(spec.name).workers)
    version = models.version(here.services.catalog, spec, described=False)
    return {
        "owner": OWNER_NAME,
        "name": spec.name,
        "current_release": {
            "number": 1,
            "model": full_name(spec.name),
            "version": version["id"],
            "created_at": version["created_at"],
            "created_by": _account(here),
            "configuration": {
                "hardware": spec.device if isinstance(spec.device, str) else ",".join(spec.device),
                "min_instances": workers,
                "max_instances": workers,
            },
        },
    }


def _page(results: list[dict[str, Any]]) -> dict[str, Any]:
    return {"results": results, "next": None, "previous": None}
