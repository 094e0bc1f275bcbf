"""The peers that keep nothing: requests go through queues in memory to processes that run the model."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from bench.clients.order import Dialect
from bench.environments import python_of
from bench.programs import programs
from bench.subjects import CORES, Serving
from shared.embedded_redis import free_port

BATCH = 32
BATCH_TIMEOUT = 0.005


@dataclass(slots=True)
class InMemory:
    """One server, run as `python -m COMMAND` in `env`. `{port}` and `{folder}` are put into both."""

    name: str
    environment: str
    variant: str
    settings: str
    dialect: Dialect
    command: tuple[str, ...]
    processes: int
    env: Mapping[str, str] = field(default_factory=dict)
    durable: bool = False

    @contextmanager
    def serve(self, folder: Path) -> Iterator[Serving]:
        """Raises `EnvironmentFailed`."""
        python = python_of(self.environment)
        port = free_port()
        env = {name: value.format(folder=folder) for name, value in self.env.items()}
        command = (part.format(port=port) for part in self.command)
        with programs(folder) as running:
            server = running.start("server", env, "-m", *command, python=python)
            yield Serving(
                url=f"http://127.0.0.1:{port}",
                redis_url=None,
                groups={"server": lambda: server.parent + server.children},
            )


def litserve(*, batch_size: int = BATCH) -> InMemory:
    """LitServe: an API server a core, as our front end has. `batch_size` 1 is without batching."""
    alone = batch_size == 1
    batching = (
        "no batching" if alone else f"max_batch_size {batch_size}, batch_timeout {BATCH_TIMEOUT} s"
    )
    return InMemory(
        name="LitServe",
        environment="litserve",
        variant="alone" if alone else f"batches of {batch_size}",
        settings=f"{CORES} API servers, 1 inference process, {batching}; nothing is kept; no "
        "authentication; POST /predict",
        dialect=Dialect(path="/predict", answer=("text",)),
        command=(
            "bench.peers.litserve_echo", "{port}", str(CORES), str(batch_size), str(BATCH_TIMEOUT),
        ),
        processes=1,
    )  # fmt: skip


def ray_serve(*, fast: bool = True) -> InMemory:
    """Ray Serve: a replica a core. `fast` is its high throughput mode, HAProxy before the replicas."""
    mode = {"RAY_SERVE_ENABLE_HA_PROXY": "1", "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1"} if fast else {}
    said = f"high throughput mode ({', '.join(mode)})" if fast else "its Python proxy"
    return InMemory(
        name="Ray Serve",
        environment="ray-serve",
        variant="HAProxy" if fast else "default proxy",
        settings=f"{CORES} replicas, {said}, max_batch_size {BATCH}, batch_wait_timeout_s {BATCH_TIMEOUT}, "
        "no access log; nothing is kept; no authentication; POST /",
        dialect=Dialect(path="/", answer=("text",)),
        command=(
            "bench.peers.ray_serve_echo", "{port}", str(CORES), str(BATCH), str(BATCH_TIMEOUT),
        ),
        processes=CORES,
        env={**mode, "RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0"},
    )  # fmt: skip


def bentoml() -> InMemory:
    """BentoML: a worker a core, each with adaptive batches of its own."""
    return InMemory(
        name="BentoML",
        environment="bentoml",
        variant=f"batches of up to {BATCH}",
        settings=f"{CORES} workers, max_batch_size {BATCH}, max_latency_ms 1000, no access log; "
        "nothing is kept; no authentication; POST /echo",
        dialect=Dialect(path="/echo", answer=(0,), batch="prompts"),
        command=(
            "bentoml", "serve", "bench.peers.bentoml_echo:Echo", "--host", "127.0.0.1", "--port", "{port}",
        ),
        processes=CORES,
        env={"WORKERS": str(CORES), "BENTOML_HOME": "{folder}", "BENTOML_DO_NOT_TRACK": "True"},
    )  # fmt: skip
