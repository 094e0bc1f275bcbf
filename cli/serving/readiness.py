"""Waits until a server that has just been started is ready."""

import math
import threading
import time
from collections.abc import Callable

from client import ApiError, Client, ClientError, ConnectionFailed, Model

POLL = 0.25
MODELS_POLL = 1.0
"""Less often than a probe: each look is a request like any other, logged and counted."""
REMIND = 15.0
MODELS_PATIENCE = 120.0
"""Seconds that the other models may take to load once the first one serves."""


def await_models(
    client: Client,
    say: Callable[[str], None],
    over: threading.Event,
    patience: float = math.inf,
) -> list[Model]:
    """The models once all of them are served, or as they are when `over` is set.

    `say` gets a line every `REMIND` seconds about what is missing. Raises `TimeoutError` when the server
    is not ready after `patience` seconds.
    """
    _until_ready(client, say, over, patience)
    end = time.monotonic() + MODELS_PATIENCE
    models: list[Model] = []
    while not over.is_set():
        try:
            models = client.models()
        except ClientError:
            models = []
        if (models and all(map(_settled, models))) or time.monotonic() >= end:
            break
        over.wait(MODELS_POLL)
    return models


def _settled(model: Model) -> bool:
    return model.serving or model.state == "failed"


def _until_ready(
    client: Client, say: Callable[[str], None], over: threading.Event, patience: float
) -> None:
    end = time.monotonic() + patience
    remind = time.monotonic() + REMIND
    while not over.wait(POLL):
        try:
            readiness = client.ready()
        except ConnectionFailed:
            detail = "the API does not answer"
        except ApiError as error:
            detail = str(error)
        else:
            if readiness.ok:
                return
            detail = readiness.detail
        if time.monotonic() >= end:
            raise TimeoutError(f"not ready after {patience:g} s: {detail}")
        if time.monotonic() >= remind:
            say(f"not ready yet: {detail}")
            remind = time.monotonic() + REMIND
