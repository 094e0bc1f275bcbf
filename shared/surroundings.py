"""Variables of other programs, which the libraries we run would heed over what our own code says.

Celery takes its broker from `CELERY_BROKER_URL`, gunicorn its address from `GUNICORN_CMD_ARGS`, Flower every
option from `FLOWER_*`. A server's processes take such variables out of their environment before those
libraries are loaded. docs/configuration.md lists them; imports no library, so that it can come first.
"""

import json
import os
import re
import sys
import time
from collections.abc import Mapping

PREFIXES = ("CELERY_", "FLASK_", "FLOWER_", "GEVENT", "GUNICORN_", "KOMBU_", "OTEL_")
NAMES = frozenset(
    {
        # Celery, kombu and billiard: another loader, other signals, values that end the import.
        "AUTOSCALE_KEEPALIVE",
        "C_BENCH",
        "C_BENCH_EVERY",
        "C_FAKEFORK",
        "C_IMPDEBUG",
        "C_REMDEBUG",
        "C_STRICT_APP",
        "C_WARN_APP",
        "C_WNOCONF",
        "DISABLE_TRACEBACKS",
        "DJANGO_SETTINGS_MODULE",
        "EVENTLET_NOBLOCK",
        "FORKED_BY_MULTIPROCESSING",
        "MP_LOG",
        "PICKLE_PROTOCOL",
        "REMAP_SIGTERM",
        "TIMER_DEBUG",
        "USE_FAST_LOCALS",
        # gunicorn: a prefix of every path, who may say where a request came from, how files are sent.
        "FORWARDED_ALLOW_IPS",
        "SCRIPT_NAME",
        "SENDFILE",
    }
)
OURS = frozenset(
    {"FLOWER_ADDRESS", "FLOWER_PORT", "OTEL_RESOURCE_ATTRIBUTES"}
    | {
        f"OTEL_EXPORTER_OTLP_{signal}{what}"
        for signal in ("", "TRACES_")
        for what in ("HEADERS", "CERTIFICATE", "CLIENT_KEY", "CLIENT_CERTIFICATE")
    }
)
"""Settings of ours, and those of OpenTelemetry that are honoured (docs/observability.md)."""

PORTS = frozenset({"PORT", "FLOWER_PORT", "METRICS_PORT"})
_SERVICE = re.compile(r"_SERVICE_HOST$|_SERVICE_PORT(_|$)|_PORT_[0-9]+_(TCP|UDP|SCTP)(_|$)")
_SERVICE_ADDRESS = re.compile(r"(tcp|udp|sctp)://", re.IGNORECASE)


def foreign(environment: Mapping[str, str]) -> list[str]:
    """The names of variables that were set for other programs and that ours must not hear of."""
    return sorted(
        name
        for name, text in environment.items()
        if name in NAMES
        or (
            name.startswith(PREFIXES)
            and name not in OURS
            and not _SERVICE.search(name)
            and not _SERVICE_ADDRESS.match(text)
        )
    )


def services(environment: Mapping[str, str]) -> list[str]:
    """Our ports whose variables hold an address: Kubernetes' word for a Service that is named so."""
    return sorted(name for name in PORTS if _SERVICE_ADDRESS.match(environment.get(name, "")))


def shed(told_by: str | None = None) -> None:
    """Take other programs' variables out of this process, and name them in one line on standard error.

    `told_by` is the process in the line, which has the form of the log's; without it nothing is said.
    """
    found = foreign(os.environ)
    for name in (*found, *services(os.environ)):
        del os.environ[name]
    if found and told_by is not None:
        said = f"set for other programs and not heeded: {', '.join(found)} (docs/configuration.md)"
        sys.stderr.write(f"truthgpt: {said}\n" if _plain() else _logged(said, told_by))


def _plain() -> bool:
    """Whether people read the log as it stands; a wrong setting is told when settings are read."""
    asked = os.environ.get("ENABLE_STRUCTURED_LOGGING", "").lower()
    return sys.stderr.isatty() or asked in ("0", "f", "false", "n", "no", "off")


def _logged(said: str, process: str) -> str:
    now = time.time()
    moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now))
    line = {
        "time": f"{moment}.{int(now * 1000) % 1000:03d}Z",
        "level": "warning",
        "logger": __name__,
        "event": said,
        "process": process,
        "pid": os.getpid(),
    }
    return json.dumps(line) + "\n"
