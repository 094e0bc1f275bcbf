"""Tracing of a process. OpenTelemetry is imported once a collector answers, and not before."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from shared.settings import Settings
from shared.telemetry.traces.collector import Collector

if TYPE_CHECKING:
    from shared.telemetry.traces.spans import Spans


FIRST_LOOK_SECONDS = 10.0
"""Far longer than a collector takes to refuse a connection, or OpenTelemetry to be imported."""


@dataclass(frozen=True, slots=True)
class Tracing:
    """`wait_until_known` waits, for seconds at most, for whether anything is traced; `stop` ends tracing."""

    wait_until_known: Callable[[], object]
    stop: Callable[[], None]


def keep_traces(settings: Settings, process: str, watch: Callable[["Spans"], None]) -> Tracing:
    """Trace this process as soon as something answers at `OTLP_ENDPOINT`.

    `process` names its part. `watch` is called once, from a thread, to hang the observers up.
    """
    if not settings.enable_tracing:
        return Tracing(lambda: True, lambda: None)
    begun: list[Spans] = []

    def begin() -> None:
        if begun:
            return
        from shared.telemetry.traces.spans import Spans

        begun.append(Spans(settings, process, collector))
        watch(begun[0])

    def stop() -> None:
        collector.stop()
        for spans in begun:
            spans.stop()

    collector = Collector(settings.otlp_endpoint, begin)
    collector.start()
    return Tracing(partial(collector.await_look, FIRST_LOOK_SECONDS), stop)
