"""`truthgpt health …`: probes for containers, one for each kind of process.

Exit status 1 says that a restart is the cure. Where the store cannot be asked nothing is known of the
process, and a restart would cost a loaded model, so a liveness probe passes then.
"""

import socket
from collections.abc import Callable

import click
import httpx

from cli.serving.processes import FLOWER_PORT
from shared.domain.errors import StoreUnavailable
from shared.redis.connection import connect
from shared.settings import load_settings
from shared.store.jobs import JobStore
from workers.operations.health import batches_fault, rescue_fault, worker_fault

TIMEOUT_SECONDS = 3.0


@click.group()
def health() -> None:
    """Is the process in this container well? For probes."""


@health.command()
@click.option("--port", envvar="PORT", type=int, default=8080, show_default=True)
def api(port: int) -> None:
    """The HTTP API: does it answer?"""
    _ask(f"http://127.0.0.1:{port}/health")


@health.command()
@click.option("--port", envvar="FLOWER_PORT", type=int, default=FLOWER_PORT, show_default=True)
def flower(port: int) -> None:
    """Flower: does it answer?"""
    _ask(f"http://127.0.0.1:{port}/healthcheck")


@health.command()
@click.option("--model", envvar="TRUTHGPT_MODEL", required=True, help="A name in the catalogue.")
@click.option("--serving", is_flag=True, help="For readiness: is the model loaded, too?")
def worker(model: str, serving: bool) -> None:
    """A model's worker: does it give signs of life and take the jobs that wait?"""
    here = socket.gethostname()
    _judge(lambda store: worker_fault(store, model, here, serving=serving), strict=serving)


@health.command()
def rescue() -> None:
    """The rescue worker: has anybody rescued within the last seconds?"""
    _judge(rescue_fault)


@health.command()
def batches() -> None:
    """The process that works on batches: has anybody looked for some within the last minute?"""
    _judge(batches_fault)


def _ask(url: str) -> None:
    try:
        status = httpx.get(url, timeout=TIMEOUT_SECONDS, trust_env=False).status_code
    except httpx.HTTPError as error:
        raise click.ClickException(f"{url}: {type(error).__name__}") from None
    if status != httpx.codes.OK:
        raise click.ClickException(f"{url}: {status}")


def _judge(fault: Callable[[JobStore], str | None], *, strict: bool = False) -> None:
    settings = load_settings()
    redis = connect(settings.require_redis(), settings.redis_timeout, retries=0)
    try:
        found = fault(JobStore(redis, settings.key_prefix))
    except StoreUnavailable as error:
        if strict:
            raise
        click.echo(f"cannot tell: {error.detail}", err=True)
        return
    if found is not None:
        raise click.ClickException(found)
