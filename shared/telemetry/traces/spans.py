"""A process's tracer and what hangs on it. Imported only where traces are kept: it brings OpenTelemetry."""

import os
import socket
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from opentelemetry import trace
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

from shared.hooks import Hooks
from shared.settings import Settings
from shared.telemetry.traces.collector import Collector
from shared.telemetry.traces.delivery_spans import DeliverySpans
from shared.telemetry.traces.exporting import TIMEOUT_SECONDS, PatientExporter, exporter
from shared.telemetry.traces.job_spans import JobSpans
from shared.telemetry.traces.request_spans import RequestSpans
from shared.telemetry.traces.sampling import Allowance, HeadSampler

QUEUE_BOUND = 4096
BATCH = 512
EXPORT_MS = 1000
ENTRY = "api"
"""The part of the system where traces come in from outside."""
_NO_SPAN = nullcontext()


class Spans:
    """One a process; `stop` sends what is left."""

    def __init__(self, settings: Settings, process: str, collector: Collector) -> None:
        sampler = HeadSampler(
            settings.trace_sample_ratio,
            Allowance(settings.trace_max_per_second),
            lambda: collector.present,
            trusting=process != ENTRY,
        )
        described: dict[str, str | int] = {
            "service.name": f"truthgpt-{process}",
            "service.namespace": "truthgpt",
            "service.instance.id": f"{socket.gethostname()}-{os.getpid()}",
            "process.pid": os.getpid(),
        }
        self._provider = TracerProvider(
            sampler=sampler, resource=Resource.create(described), shutdown_on_exit=False
        )
        self._provider.add_span_processor(
            BatchSpanProcessor(
                PatientExporter(exporter(settings.otlp_endpoint), collector),
                max_queue_size=QUEUE_BOUND,
                schedule_delay_millis=EXPORT_MS,
                max_export_batch_size=BATCH,
                export_timeout_millis=TIMEOUT_SECONDS * 1000,
            )
        )
        self._tracer = self._provider.get_tracer("truthgpt")

    def requests(self) -> Hooks:
        """The observer that makes the spans of the API's requests."""
        return RequestSpans(self._tracer)

    def jobs(self, model: str) -> Hooks:
        """A model worker's observer."""
        return JobSpans(self._tracer, model)

    def deliveries(self) -> Hooks:
        """The observer of who delivers webhooks."""
        return DeliverySpans(self._tracer)

    def watch_redis(self, client: Any) -> None:
        """A span for every command of this client that a kept request gives."""
        from opentelemetry.instrumentation.redis import RedisInstrumentor

        RedisInstrumentor.instrument_client(client, tracer_provider=self._provider)

    def script_call(self) -> AbstractContextManager[object]:
        """A span around a script call, where a kept request makes it."""
        if not trace.get_current_span().is_recording():
            return _NO_SPAN
        return self._tracer.start_as_current_span(
            "EVALSHA", kind=trace.SpanKind.CLIENT, attributes={"db.system": "redis"}
        )

    def watch_celery(self) -> None:
        """A span for every task that this worker runs, within the trace that its message names."""
        from celery import signals
        from opentelemetry.instrumentation.celery import CeleryInstrumentor

        instrumentor: Any = CeleryInstrumentor()  # type: ignore[no-untyped-call]
        instrumentor.instrument(tracer_provider=self._provider)
        # For tasks sent by their names alone, as doorbells are, it opens spans that it never ends.
        signals.before_task_publish.disconnect(instrumentor._trace_before_publish)

    def stop(self) -> None:
        self._provider.shutdown()
