"""A whole model worker on a real store, without Celery, for tests to give jobs to."""

import threading
from collections.abc import Mapping

import msgspec
import pytest

from shared.domain.models.catalog import Breaker, Limits, ModelSpec
from shared.domain.records import Claim, NewJob, new_job_id
from shared.domain.schemas import Job
from shared.hooks import Hooks
from shared.store.jobs import JobStore
from tests.conftest import PATIENCE, eventually
from workers.engine_host import client as engine_client
from workers.engine_host.client import HostOptions
from workers.execution.output_files import OutputFiles
from workers.queue.rescuer import Rescuer
from workers.runtime import Runtime

MODEL = "m"


class Diary(Hooks):
    def __init__(self) -> None:
        self.ends: list[tuple[str, str]] = []
        self.breakers: list[tuple[str, str]] = []
        self.estimates: list[tuple[str, float]] = []

    def job_ended(self, claim: Claim, state: str, seconds: float, detail: str) -> None:
        self.ends.append((claim.id, state))

    def estimate_error(self, model: str, seconds: float) -> None:
        self.estimates.append((model, seconds))

    def breaker_changed(self, model: str, scope: str, old: str, new: str) -> None:
        self.breakers.append((scope, new))


class Bench:
    """A runtime whose doorbells start drains in threads, as Celery's pool would.

    Jobs are tried again at once, and a host that has died is back at once: how these pauses grow is tested in
    execution/test_retries.py and engine_host/test_respawn.py.
    """

    def __init__(
        self,
        store: JobStore,
        drain_time: float = 0.5,
        spec: ModelSpec | None = None,
        engine: str = "tests.workers.faulty:Faulty",
        host: HostOptions | None = None,
        step_timeout: float = 2.0,
        breaker: Breaker | None = None,
        outputs: OutputFiles | None = None,
        **options: object,
    ) -> None:
        self.store = store
        self.diary = Diary()
        spec = spec or ModelSpec(
            name=MODEL,
            engine=engine,
            limits=Limits(step_timeout=step_timeout, run_timeout=30),
            options={"continues": True, **options},
            breaker=breaker or Breaker(),
        )
        self.runtime = Runtime(
            store,
            spec,
            "w",
            self.ring,
            drain_time=drain_time,
            idle_seconds=0.2,
            hooks=[self.diary],
            host=host,
            outputs=outputs,
        )
        self.runtime.executor._draw = lambda: 0.0
        self._patch = pytest.MonkeyPatch()
        self._patch.setattr(engine_client, "RESPAWN_SECONDS", (0.02, 0.05))
        # Nobody rings but the test.
        self.runtime.doorbells.stop()
        self.rescuer = Rescuer(store, lambda _: self.ring(), interval=0.05)
        self.threads: list[threading.Thread] = []
        self.runtime.start()
        self.rescuer.start()
        eventually(lambda: self.runtime.executor.ready, 60, "the engine is ready")

    def ring(self) -> None:
        thread = threading.Thread(target=self.runtime.drain)
        self.threads.append(thread)
        thread.start()

    def submit(
        self,
        content: object,
        tenant: str = "t",
        params: Mapping[str, object] | None = None,
        **fields: object,
    ) -> str:
        request = msgspec.json.encode({"content": content, "params": params or {}, "seed": 3})
        job = NewJob(new_job_id(), MODEL, tenant, request, **fields)  # type: ignore[arg-type]
        if self.store.create(job, max_queued=1000).ring:
            self.ring()
        return job.id

    def ended(self, job_id: str, seconds: float = PATIENCE) -> Job:
        eventually(lambda: self.store.get(job_id).terminal, seconds, f"{job_id} ends")
        return self.store.get(job_id).job()

    def stop(self) -> None:
        self.rescuer.stop()
        self.runtime.stop()
        self._patch.undo()
        for thread in self.threads:
            thread.join(timeout=5)
            assert not thread.is_alive()
