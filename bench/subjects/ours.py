"""This project as it is shipped: API, one worker with its engine host, the rescue worker, Redis."""

import os
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from bench.clients.order import Dialect
from bench.programs import REPOSITORY, Program, processes_of, programs
from bench.subjects import CORES, Serving
from shared.embedded_redis import free_port

CATALOGUE = "models: {echo: {engine: echo}}\n"
NO_LIMIT = str(10**9)
"""The rate limit is at work, above what any load here reaches."""


class Ours:
    """`POST /v1/infer` with authentication, validation and everything else that is on by default."""

    name = "truthgpt-inference"
    environment: str | None = None
    durable = True

    def __init__(
        self,
        processes: int = 1,
        *,
        model: str = "echo",
        catalogue: str = CATALOGUE,
        variant: str = "POST /v1/infer",
        env: Mapping[str, str] | None = None,
        submit_only: bool = False,
        checkout: Path = REPOSITORY,
        packages: Path | None = None,
    ) -> None:
        """`processes` is the number of Celery workers, each with an engine host of `model`; `env` are
        settings of all processes. `submit_only` is without a worker: what counts is a job's id. `checkout`
        is whose code runs, with the packages of this environment and, before them, those in `packages`, a
        folder that `pip install --target` has made.
        """
        self._path = os.pathsep.join(map(str, filter(None, (checkout, packages))))
        self._checkout = checkout
        self.variant = "POST /v1/jobs" if submit_only else variant
        self._submit_only = submit_only
        self._env = dict(env or {})
        self.processes = 0 if submit_only else processes
        self._model = model
        self._catalogue = catalogue
        self._token = secrets.token_urlsafe(32)

    @property
    def settings(self) -> str:
        workers = (
            f"{self.processes} Celery worker (threads, -c 1, -E) with its engine host, echo engine"
            if self.processes
            else "no worker"
        )
        return (
            f"gunicorn gevent {CORES} workers; {workers}; rescue worker; default settings: authentication, "
            "validation, rate limits, metrics, traces and logs on"
        )

    @property
    def headers(self) -> dict[str, str]:
        """What a client has to send along."""
        return {"Authorization": f"Bearer {self._token}"}

    @property
    def dialect(self) -> Dialect:
        return Dialect(
            path="/v1/jobs" if self._submit_only else "/v1/infer",
            fields={"model": self._model},
            headers=self.headers,
            answer=("id",) if self._submit_only else ("output", "text"),
            ids=self._submit_only,
        )

    @contextmanager
    def serve(self, folder: Path) -> Iterator[Serving]:
        catalogue = folder / "catalog.yaml"
        catalogue.write_text(self._catalogue, "utf-8")
        port = free_port()
        with programs(folder) as running:
            redis = running.redis()
            env = {
                "REDIS_URL": redis.url,
                "TRUTHGPT_API_TOKEN": self._token,
                "CACHE_MAX_SIZE": "0",  # Every request is to run.
                "TRUTHGPT_CONFIG": str(catalogue),
                "TRUTHGPT_STATE_DIR": str(folder),
                "RATE_LIMIT_RPM": NO_LIMIT,
                "WEB_CONCURRENCY": str(CORES),
                "PYTHONPATH": self._path,
                **self._env,
            }

            def start(name: str, *arguments: str) -> Program:
                return running.start(name, env, "-m", "cli", *arguments, checkout=self._checkout)

            api = start("api", "api", "--port", str(port))
            rescue = start("rescue", "rescue")
            workers = [
                start(f"worker-{n}", "worker", "--model", self._model)
                for n in range(self.processes)
            ]
            yield Serving(
                url=f"http://127.0.0.1:{port}",
                redis_url=redis.url,
                groups={
                    "front end": lambda: api.parent + api.children,
                    "worker": lambda: [p for w in workers for p in w.parent],
                    "engine": lambda: [p for w in workers for p in w.children],
                    "rescue": lambda: rescue.parent + rescue.children,
                    "redis": lambda: processes_of(redis),
                },
            )
