"""The peers that keep jobs in Redis: a web server in front, worker processes behind."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.clients.order import Dialect, Polling
from bench.environments import python_of
from bench.programs import Program, processes_of, programs
from bench.subjects import CORES, Serving
from shared.embedded_redis import free_port

GUNICORN = (
    "gunicorn", "{module}:flask_app", "--worker-class", "gevent", "--workers", str(CORES),
    "--bind", "127.0.0.1:{port}",
)  # fmt: skip
UVICORN = (
    "uvicorn", "{module}:app", "--workers", str(CORES), "--host", "127.0.0.1", "--port", "{port}",
    "--log-level", "warning",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Stack:
    """One project's commands, run as `python -m …` by the interpreter of `environment`; None is ours.

    `processes` is how many work. `{module}` and `{port}` are put in.
    """

    name: str
    module: str
    environment: str | None
    web: tuple[str, ...]
    worker: tuple[str, ...]
    processes: int
    settings: str


FLASK_CELERY = Stack(
    name="Flask + Celery",
    module="bench.peers.flask_celery",
    environment=None,
    web=GUNICORN,
    worker=(
        "celery", "-A", "{module}:celery_app", "worker", "--concurrency", str(CORES), "--loglevel", "WARNING",
    ),
    processes=CORES,
    settings=f"Celery worker (prefork, -c {CORES}), one task a job, Redis result backend, default settings",
)  # fmt: skip
FLASK_CELERY_BATCHES = Stack(
    name="Flask + celery-batches",
    module="bench.peers.flask_celery_batches",
    environment="celery-batches",
    web=GUNICORN,
    worker=FLASK_CELERY.worker,
    processes=CORES,
    settings=f"Celery worker (prefork, -c {CORES}), batches of up to 32 within 20 ms, Redis result backend",
)
FLASK_DRAMATIQ = Stack(
    name="Flask + dramatiq",
    module="bench.peers.flask_dramatiq",
    environment="tasks",
    web=GUNICORN,
    worker=("dramatiq", "{module}"),
    processes=CORES,
    settings=f"dramatiq worker ({CORES} processes, 8 threads each: its defaults), Results on Redis",
)
FASTAPI_TASKIQ = Stack(
    name="FastAPI + taskiq",
    module="bench.peers.fastapi_taskiq",
    environment="tasks",
    web=UVICORN,
    worker=("taskiq", "worker", "{module}:broker", "--log-level", "WARNING"),
    processes=2,
    settings="taskiq worker (2 processes: its default), RedisStreamBroker, RedisAsyncResultBackend",
)


class Queued:
    """A stack asked in one of three ways: the client polls, the view waits, or nobody asks for the result."""

    durable = True

    def __init__(
        self, stack: Stack, *, poll: float | None = None, submit_only: bool = False
    ) -> None:
        """`poll` is the seconds between two looks at a result; None lets the view wait for it.

        `submit_only` runs no worker: the answer that counts is the id of the accepted job.
        """
        self.name = stack.name
        self.environment = stack.environment
        self.processes = 0 if submit_only else stack.processes
        self._stack = stack
        self._poll = poll
        self._submit_only = submit_only

    @property
    def variant(self) -> str:
        if self._submit_only:
            return "submit alone"
        return "the view waits" if self._poll is None else f"polled every {self._poll * 1000:g} ms"

    @property
    def settings(self) -> str:
        web = self._stack.web
        server = f"{web[0]} gevent" if web is GUNICORN else web[0]
        behind = "no worker" if self._submit_only else self._stack.settings
        asked = (
            "POST /infer"
            if self._submit_only
            else "POST /infer/wait"
            if self._poll is None
            else "POST /infer, then GET /result/<id>"
        )
        return f"{server} {CORES} workers; {behind}; no authentication; {asked}"

    @property
    def dialect(self) -> Dialect:
        if self._submit_only:
            return Dialect(path="/infer", answer=("id",), ids=True)
        if self._poll is None:
            return Dialect(path="/infer/wait", answer=("value", "text"))
        polling = Polling(job_id=("id",), path="/result/{id}", every=self._poll)
        return Dialect(path="/infer", answer=("value", "text"), polling=polling)

    @contextmanager
    def serve(self, folder: Path) -> Iterator[Serving]:
        """Raises `EnvironmentFailed`."""
        python = python_of(self.environment) if self.environment else None
        port = free_port()
        with programs(folder) as running:
            redis = running.redis()
            env = {"REDIS_URL": redis.url}

            def start(name: str, command: tuple[str, ...]) -> Program:
                filled = (part.format(module=self._stack.module, port=port) for part in command)
                return running.start(name, env, "-m", *filled, python=python)

            web = start("web", self._stack.web)
            workers = [] if self._submit_only else [start("worker", self._stack.worker)]
            yield Serving(
                url=f"http://127.0.0.1:{port}",
                redis_url=redis.url,
                groups={
                    "front end": lambda: web.parent + web.children,
                    "worker": lambda: [p for w in workers for p in w.parent],
                    "engine": lambda: [p for w in workers for p in w.children],
                    "redis": lambda: processes_of(redis),
                },
            )
