"""LitServe (`bench/peers/litserve_echo.py`): API servers and one inference process, all in memory."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.environments import python_of
from bench.order import Dialect
from bench.programs import programs
from bench.subjects import CORES, Serving
from shared.embedded_redis import free_port

ENVIRONMENT = "litserve"
BATCH_TIMEOUT = 0.005


class LitServe:
    """An API server a core, as our front end has; no Redis, no authentication."""

    name = "LitServe"
    environment: str | None = ENVIRONMENT
    durable = False
    processes = 1

    def __init__(self, *, batch_size: int, api_servers: int = CORES) -> None:
        """`batch_size` 1 is LitServe without batching."""
        self._batch_size = batch_size
        self._api_servers = api_servers

    @property
    def variant(self) -> str:
        batching = "alone" if self._batch_size == 1 else f"batches of {self._batch_size}"
        servers = "" if self._api_servers == CORES else f", {self._api_servers} API server"
        return batching + servers

    @property
    def settings(self) -> str:
        batching = (
            "no batching"
            if self._batch_size == 1
            else f"max_batch_size {self._batch_size}, batch_timeout {BATCH_TIMEOUT} s"
        )
        return (
            f"{self._api_servers} API servers, 1 inference process, {batching}; nothing is kept; no "
            "authentication; POST /predict"
        )

    @property
    def dialect(self) -> Dialect:
        return Dialect(path="/predict", answer=("text",))

    @contextmanager
    def serve(self, folder: Path) -> Iterator[Serving]:
        """Raises `EnvironmentFailed`."""
        python = python_of(ENVIRONMENT)
        port = free_port()
        options = (port, self._api_servers, self._batch_size, BATCH_TIMEOUT)
        with programs(folder) as running:
            server = running.start(
                "litserve", {}, "-m", "bench.peers.litserve_echo", *map(str, options), python=python
            )
            yield Serving(
                url=f"http://127.0.0.1:{port}",
                redis_url=None,
                groups={"server": lambda: server.parent + server.children},
            )
