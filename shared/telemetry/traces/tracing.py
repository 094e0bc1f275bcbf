"""Tracing of a process. OpenTelemetry is imported once a collector answers, and not before."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from shared.settings import Settings
from shared.telemetry.traces.collector import Collector

if TYPE_CHECKING:
    from shared.telemetry.traces.spans import Spans


def keep_traces(
    settings: Settings, process: str, watch: Callable[["Spans"], None]
) -> Callable[[], None]:
    """Trace this process as soon as something answers at `OTLP_ENDPOINT`. Returns what ends it.

    `process` names its part. `watch` is called once, from a thread, to hang the observers up.
    """
    if not settings.enable_tracing:
        return lambda: None
    begun: list[Spans] = []

    def begin() -> None:
        if begun:
            return
        from shared.telemetry.traces.spans import Spans

        begun.append(Spans(settings, process, collector))
        watch(begun[0])

    def end() -> None:
        collector.stop()
        for spans in begun:
            spans.stop()

    collector = Collector(settings.otlp_endpoint, begin)
    collector.start()
    return end
