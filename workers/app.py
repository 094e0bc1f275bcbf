"""The `celery -A workers.app` target: builds the app from the environment and wires Celery's signals.

`TRUTHGPT_MODEL` makes it the worker of that model, and of its adapters; without it, it rescues (and
delivers).
"""

import os
import sys
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from celery import signals

from shared import broker
from shared.domain import file_inputs
from shared.domain.errors import ConfigError
from shared.domain.models.catalog import ModelSpec
from shared.faults import faults
from shared.redis.connection import connect
from shared.redis.guard import require_fit
from shared.settings import Settings, load_settings
from shared.store.jobs import JobStore
from shared.telemetry import logs
from shared.telemetry.job_log import JobLog
from shared.telemetry.traces.tracing import Tracing, keep_traces
from workers.operations.flower import FlowerEvents, answer_revoke, refuse_idle_controls
from workers.tasks import register_deliver, register_drain

if TYPE_CHECKING:
    from shared.telemetry.metrics.site import Site
    from shared.telemetry.traces.spans import Spans
    from workers.engine_host.shared_host import SharedHost
    from workers.execution.input_files import InputFiles
    from workers.execution.output_files import OutputFiles
    from workers.runtime import Runtime


def _settings() -> Settings:
    try:
        faults.arm(os.environ)
        settings = load_settings()
        if settings.model is not None:
            settings.catalog.get(settings.model)
        require_fit(settings.require_redis(), settings.redis_timeout, settings.key_prefix)
        return settings
    except ConfigError as error:
        sys.exit(f"truthgpt: {error}")


settings = _settings()
app = broker.make_celery(settings)
store = JobStore(
    connect(settings.require_redis(), settings.redis_timeout),
    settings.key_prefix,
    retention=settings.job_retention,
    lease=settings.lease,
)


@signals.setup_logging.connect  # type: ignore[untyped-decorator]
def _log(**_: Any) -> None:
    if settings.model is not None:
        logs.configure(settings, f"worker-{settings.model}", model=settings.model)
    else:
        logs.configure(settings, os.environ.get("TRUTHGPT_ROLE", "celery"))


def _keep_metrics(name: str, watch: Callable[["Site"], None]) -> None:
    """Metrics of this process, once it starts: Flower imports this too. `watch` hangs them on its work."""
    if not settings.enable_metrics:
        return
    from shared.telemetry.metrics.site import Site

    site = Site(settings, name)
    watch(site)
    site.start(serving=True)
    signals.worker_shutdown.connect(lambda **_: site.stop(), weak=False)


def _keep_traces(name: str, watch: Callable[["Spans"], None]) -> Tracing:
    """Traces of this process, once its `worker_init` has come: the threads pool has no other beginning."""

    def watch_all(spans: "Spans") -> None:
        spans.watch_celery()
        watch(spans)

    tracing = keep_traces(settings, name, watch_all)
    signals.worker_shutdown.connect(lambda **_: tracing.stop(), weak=False)
    return tracing


def _engine_host(spec: ModelSpec) -> "SharedHost":
    from workers.engine_host.client import HostOptions
    from workers.engine_host.shared_host import SharedHost

    options = HostOptions(
        settings.engine_memory_limit,
        settings.state_dir.expanduser(),
        int(settings.max_output_bytes),
    )
    return SharedHost(spec, options)


def _runtime(model: str, host: "SharedHost", events: FlowerEvents) -> "Runtime":
    from workers.runtime import Runtime

    spec = settings.catalog.get(model)
    return Runtime(
        store,
        spec,
        f"{model}-{os.uname().nodename}-{os.getpid()}",
        partial(broker.ring, app, model),
        drain_time=settings.drain_time,
        hooks=[events, JobLog(prompts=settings.log_prompts)],
        host=host,
        inputs=_inputs(spec),
        outputs=_outputs(spec),
        probe=partial(broker.ring_unless_rung, app, model),
    )


def _inputs(spec: ModelSpec) -> "InputFiles | None":
    if spec.engine not in file_inputs.ENGINES:
        return None
    from shared.files import open_storage
    from shared.store.files import Files
    from workers.execution.input_files import InputFiles

    return InputFiles(Files(store), open_storage(settings.file_storage, settings.state_dir))


def _outputs(spec: ModelSpec) -> "OutputFiles | None":
    if spec.engine not in file_inputs.ENGINES:
        return None
    from shared.files import open_storage
    from shared.store.files import Files, Room
    from workers.execution.output_files import OutputFiles

    room = Room(
        int(settings.file_tenant_bytes), settings.file_tenant_files, int(settings.file_total_bytes)
    )
    storage = open_storage(settings.file_storage, settings.state_dir)
    return OutputFiles(Files(store), storage, room, settings.file_retention)


def _serve_model(model: str) -> None:
    """Wire the worker of a model, and of adapters in its engine host, into Celery's life cycle."""
    # The worker that rescues has no engine host, and runs no jobs.
    from workers.runtime import stop_all

    consumer: list[Any] = []

    def dispatcher() -> Any:
        return getattr(consumer[0], "event_dispatcher", None) if consumer else None

    own, *adapters = settings.catalog.served_with(model)
    host = _engine_host(own)
    events = {spec.name: FlowerEvents(spec.name, dispatcher) for spec in (own, *adapters)}
    runtimes = {name: _runtime(name, host, each) for name, each in events.items()}
    register_drain(app, runtimes)

    def watching(site: "Site") -> None:
        site.process(f"engine-{model}", lambda: host.client.pid)
        for name, runtime in runtimes.items():
            runtime.observers.add(site.jobs(name))

    def watch(spans: "Spans") -> None:
        for name, runtime in runtimes.items():
            runtime.observers.add(spans.jobs(name))

    @signals.worker_init.connect(weak=False)  # type: ignore[untyped-decorator]
    def _begin(**_: Any) -> None:
        _log()
        answer_revoke(store)
        refuse_idle_controls()
        _keep_metrics(f"worker-{model}", watching)
        tracing = _keep_traces(f"worker-{model}", watch)
        for name, runtime in runtimes.items():
            runtime.start()
            events[name].start()
        # Before it answers doorbells: the trace of a job that another worker left behind goes on here.
        tracing.wait_until_known()

    @signals.worker_ready.connect(weak=False)  # type: ignore[untyped-decorator]
    def _ready(sender: Any, **_: Any) -> None:
        consumer.append(sender)
        for name in runtimes:
            broker.ring(app, name)

    @signals.worker_shutting_down.connect(weak=False)  # type: ignore[untyped-decorator]
    def _stop_claiming(**_: Any) -> None:
        for runtime in runtimes.values():
            runtime.stop_claiming()

    @signals.worker_shutdown.connect(weak=False)  # type: ignore[untyped-decorator]
    def _end(**_: Any) -> None:
        stop_all(list(runtimes.values()))
        for each in events.values():
            each.stop()


def _serve_rescue() -> None:
    """Wire the worker that rescues and delivers into Celery's life cycle."""
    # Workers of models deliver nothing, and an HTTP client takes its time to load.
    from workers.rescue_runtime import RescueRuntime

    runtime = RescueRuntime(
        settings, store, partial(broker.ring, app), partial(broker.ring_deliveries, app)
    )
    register_deliver(app, runtime.deliveries)

    def watching(site: "Site") -> None:
        runtime.observers.add(site.rescues())
        runtime.observers.add(site.deliveries())

    # Not when the broker has answered: jobs are rescued where it never does.
    @signals.worker_init.connect(weak=False)  # type: ignore[untyped-decorator]
    def _begin(**_: Any) -> None:
        _log()
        answer_revoke(store)
        refuse_idle_controls()
        _keep_metrics("rescue", watching)
        _keep_traces("rescue", lambda spans: runtime.observers.add(spans.deliveries()))
        runtime.start()

    @signals.worker_shutting_down.connect(weak=False)  # type: ignore[untyped-decorator]
    def _stop_claiming(**_: Any) -> None:
        runtime.stop_claiming()

    @signals.worker_shutdown.connect(weak=False)  # type: ignore[untyped-decorator]
    def _end(**_: Any) -> None:
        runtime.stop()


if settings.model is not None:
    _serve_model(settings.model)
else:
    _serve_rescue()
