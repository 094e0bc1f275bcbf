"""The processes that make up a server, one command each, and which of them a catalogue needs.

Every command puts its environment right and becomes the real program (`exec`), so that signals from a
supervisor reach that program and nothing stands in between.
"""

import os
import secrets
import sys
from collections.abc import Iterable
from typing import NoReturn

import click

from shared.catalog import Catalog
from shared.settings import ensure_token, load_settings, require_token_beyond_loopback

LOOPBACK = "127.0.0.1"
FLOWER_PORT = 5555
FLOWER_USER = "truthgpt"
AS_ROOT = "ignore:You're running the worker with superuser privileges"
"""Celery warns root of pickled messages; ours are JSON alone. In a container everybody is root."""


def process_lines(catalog: Catalog, *, flower: bool = True) -> dict[str, tuple[str, ...]]:
    """The names of all processes, as in the Procfile, and each one's arguments to `python -m cli`."""
    lines: dict[str, tuple[str, ...]] = {"api": ("api",)}
    for spec in catalog:
        lines[f"worker-{spec.name}"] = ("worker", "--model", spec.name)
    lines["rescue"] = ("rescue",)
    if flower:
        lines["flower"] = ("flower",)
    return lines


@click.command()
@click.option("--host", envvar="HOST", default=LOOPBACK, show_default=True)
@click.option(
    "--port", envvar="PORT", type=click.IntRange(0, 65535), default=8080, show_default=True
)
def api(host: str, port: int) -> None:
    """Run the HTTP API alone (needs REDIS_URL)."""
    settings = load_settings()
    settings.require_redis()
    require_token_beyond_loopback(settings, host)
    _become(
        ("gunicorn", "api.wsgi:app", "-c", "python:api.gunicorn_conf"),
        HOST=f"[{host}]" if ":" in host else host,
        PORT=str(port),
    )


@click.command()
@click.option("--model", envvar="TRUTHGPT_MODEL", required=True, help="A name in the catalogue.")
def worker(model: str) -> None:
    """Run one worker, which serves one model (needs REDIS_URL)."""
    from shared import broker

    settings = load_settings()
    settings.require_redis()
    settings.catalog.get(model)
    _become(
        _celery_worker([broker.queue_name(model)], node=model, threads=1),
        TRUTHGPT_MODEL=model,
    )


@click.command()
def rescue() -> None:
    """Run the worker that puts right what dies and delivers webhooks (needs REDIS_URL)."""
    from shared import broker

    load_settings().require_redis()
    _become(
        _celery_worker([broker.RESCUE_QUEUE, broker.DELIVERY_QUEUE], node="rescue", threads=4),
        TRUTHGPT_ROLE="rescue",
    )


@click.command()
@click.option("--host", envvar="FLOWER_ADDRESS", default=LOOPBACK, show_default=True)
@click.option(
    "--port",
    envvar="FLOWER_PORT",
    type=click.IntRange(0, 65535),
    default=FLOWER_PORT,
    show_default=True,
)
def flower(host: str, port: int) -> None:
    """Run Flower alone (needs REDIS_URL); user "truthgpt", password: the API token."""
    settings = load_settings()
    settings.require_redis()
    require_token_beyond_loopback(settings, host)
    token, _ = ensure_token(settings)
    _become(
        (
            "workers.flower_app",
            "--quiet",
            "-A",
            "workers.app",
            "flower",
            f"--address={host}",
            f"--port={port}",
            "--logging=error",
        ),
        # By environment: a command line is public on the machine.
        FLOWER_BASIC_AUTH=f"{FLOWER_USER}:{token}",
    )


def _celery_worker(queues: Iterable[str], *, node: str, threads: int) -> tuple[str, ...]:
    # Two workers of one name would take each other for themselves.
    return ("workers", f"{node}-{secrets.token_hex(3)}", str(threads), *queues)


def _become(command: tuple[str, ...], **env: str) -> NoReturn:
    os.environ.update(env)
    # As modules of this interpreter: a virtual environment's bin need not be on PATH.
    os.execv(sys.executable, [sys.executable, "-W", AS_ROOT, "-m", *command])  # noqa: S606 - our own program
