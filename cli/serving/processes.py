"""The processes that make up a server: one command each, and which of them a catalogue needs.

Every command puts its environment right and becomes the real program, so that signals from a supervisor
reach that program and nothing stands in between: gunicorn by `exec`, for gevent must come before all that is
imported here, so the settings are left to `api.server.gunicorn_conf`; our own in this process, which spares
each of them to import the settings again.
"""

import os
import runpy
import secrets
import sys
import warnings
from collections.abc import Iterable
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from shared.domain.models.catalog import Catalog

LOOPBACK = "127.0.0.1"
FLOWER_PORT = 5555
FLOWER_NICENESS = 10
MOST_WORKERS = 256
AS_ROOT = "You're running the worker with superuser privileges"
"""Celery warns root of pickled messages; ours are JSON alone. In a container everybody is root."""


def process_lines(catalog: "Catalog", *, flower: bool = True) -> dict[str, tuple[str, ...]]:
    """The names of all processes, as in the Procfile, and each one's arguments to `python -m cli`."""
    lines: dict[str, tuple[str, ...]] = {"api": ("api",)}
    for spec in catalog:
        if spec.base is not None:
            # The worker of its base serves it too, from the same engine host.
            continue
        lines[f"worker-{spec.name}"] = ("worker", "--model", spec.name)
    lines["rescue"] = ("rescue",)
    lines["batches"] = ("batches",)
    if flower:
        lines["flower"] = ("flower",)
    return lines


@click.command()
@click.option("--host", envvar="HOST", show_envvar=True, default=LOOPBACK, show_default=True)
@click.option(
    "--port",
    envvar="PORT",
    show_envvar=True,
    type=click.IntRange(0, 65535),
    default=8080,
    show_default=True,
)
@click.option(
    "--workers",
    envvar="WEB_CONCURRENCY",
    show_envvar=True,
    type=click.IntRange(1, MOST_WORKERS),
    default=1,
    show_default=True,
    help="Processes.",
)
def api(host: str, port: int, workers: int) -> None:
    """Run the HTTP API alone (needs REDIS_URL)."""
    os.environ.update(
        HOST=f"[{host}]" if ":" in host else host, PORT=str(port), WEB_CONCURRENCY=str(workers)
    )
    command = ["-m", "gunicorn", "api.wsgi:app", "-c", "python:api.server.gunicorn_conf"]
    # As a module of this interpreter: a virtual environment's bin need not be on PATH.
    os.execv(sys.executable, [sys.executable, *command])  # noqa: S606 - our own program


@click.command(short_help="Run one worker, of one model (needs REDIS_URL).")
@click.option("--model", envvar="TRUTHGPT_MODEL", required=True, help="A name in the catalogue.")
def worker(model: str) -> None:
    """Run one worker, which serves one model and its adapters (needs REDIS_URL)."""
    from shared import broker
    from shared.settings import load_settings

    settings = load_settings()
    settings.require_redis()
    served = settings.catalog.served_with(model)
    os.environ["TRUTHGPT_MODEL"] = model
    # A drain keeps its thread while jobs come: none may wait for another model's.
    _work([broker.queue_name(spec.name) for spec in served], node=model, threads=len(served))


@click.command(short_help="Run the worker that rescues and delivers (needs REDIS_URL).")
def rescue() -> None:
    """Run the worker that puts right what dies and delivers webhooks (needs REDIS_URL)."""
    from shared import broker
    from shared.settings import load_settings

    load_settings().require_redis()
    # Settings for all processes of a machine may name it, and would make a model's worker of this one.
    os.environ.pop("TRUTHGPT_MODEL", None)
    os.environ["TRUTHGPT_ROLE"] = "rescue"
    _work([broker.RESCUE_QUEUE, broker.DELIVERY_QUEUE], node="rescue", threads=4)


@click.command()
def batches() -> None:
    """Run the process that works on batches (needs REDIS_URL)."""
    from shared.settings import load_settings

    load_settings().require_redis()
    _run("api.batches")


@click.command(short_help="Run Flower alone (needs REDIS_URL).")
@click.option(
    "--host", envvar="FLOWER_ADDRESS", show_envvar=True, default=LOOPBACK, show_default=True
)
@click.option(
    "--port",
    envvar="FLOWER_PORT",
    show_envvar=True,
    type=click.IntRange(0, 65535),
    default=FLOWER_PORT,
    show_default=True,
)
def flower(host: str, port: int) -> None:
    """Run Flower alone (needs REDIS_URL); user "truthgpt", password: the API token."""
    from shared.settings import load_settings, require_token_beyond_loopback

    settings = load_settings()
    settings.require_redis()
    require_token_beyond_loopback(settings, host)
    # People look at it; what it takes from a busy machine, jobs would not get.
    os.nice(FLOWER_NICENESS)
    _run("workers.operations.flower_app", host, str(port))


def _work(queues: Iterable[str], *, node: str, threads: int) -> None:
    # Two workers of one name would take each other for themselves.
    _run("workers", f"{node}-{secrets.token_hex(3)}", str(threads), *queues)


def _run(module: str, *arguments: str) -> None:
    """Be `python -m MODULE ARGUMENTS` from here on."""
    warnings.filterwarnings("ignore", AS_ROOT)
    sys.argv[1:] = arguments
    runpy.run_module(module, run_name="__main__", alter_sys=True)
