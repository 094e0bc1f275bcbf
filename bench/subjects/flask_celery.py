"""Flask + Celery (`bench/peers/flask_celery.py`): gunicorn in front, a prefork pool behind."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.order import Dialect, Polling
from bench.programs import processes_of, programs
from bench.subjects import CORES, Serving
from shared.embedded_redis import free_port

MODULE = "bench.peers.flask_celery"


class FlaskCelery:
    """One task a job, in two ways: the client polls, or the view waits for the result."""

    def __init__(self, *, poll: float | None, processes: int | None = None) -> None:
        """`poll` is the seconds between two looks at a result; None lets the view wait for it.

        `processes` is the concurrency of the prefork pool; by default Celery's own, the number of cores.
        """
        self.name = "Flask + Celery"
        self.variant = "the view waits" if poll is None else f"polled every {poll * 1000:g} ms"
        self.processes = processes or os.cpu_count() or 1
        self._poll = poll

    @property
    def settings(self) -> str:
        how = (
            "POST /infer/wait with AsyncResult.get()"
            if self._poll is None
            else "POST /infer, then GET /result/<id>"
        )
        return (
            f"gunicorn gevent {CORES} workers; Celery worker (prefork, -c {self.processes}), one task a job, "
            f"Redis result backend, default settings; no authentication; {how}"
        )

    @property
    def dialect(self) -> Dialect:
        if self._poll is None:
            return Dialect(path="/infer/wait", answer=("value", "text"))
        polling = Polling(job_id=("id",), path="/result/{id}", every=self._poll)
        return Dialect(path="/infer", answer=("value", "text"), polling=polling)

    @contextmanager
    def serve(self, folder: Path) -> Iterator[Serving]:
        port = free_port()
        with programs(folder) as running:
            redis = running.redis()
            env = {"CELERY_BROKER_URL": redis.url}
            # fmt: off
            web = running.start(
                "web", env, "-m", "gunicorn", f"{MODULE}:flask_app", "--worker-class", "gevent",
                "--workers", str(CORES), "--bind", f"127.0.0.1:{port}",
            )
            worker = running.start(
                "worker", env, "-m", "celery", "-A", f"{MODULE}:celery_app", "worker",
                "--concurrency", str(self.processes), "--loglevel", "WARNING",
            )
            # fmt: on
            yield Serving(
                url=f"http://127.0.0.1:{port}",
                redis_url=redis.url,
                groups={
                    "front end": lambda: web.parent + web.children,
                    "worker": lambda: worker.parent,
                    "engine": lambda: worker.children,
                    "redis": lambda: processes_of(redis),
                },
            )
