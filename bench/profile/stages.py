"""Which stage of a job's way a stack belongs to. Pure."""

import re
from collections.abc import Sequence

OTHER = "other"

# The innermost frame that a rule knows decides; frames that none knows (the standard library, sockets) belong
# to whoever called them. Frames are spelled `function (path)`.
_FRONT_END = (
    (
        "telemetry",
        r"shared/telemetry/|prometheus_client/|opentelemetry/|api/observation|gunicorn_log",
    ),
    ("telemetry", r"shared/hooks|logging/__init__"),
    ("limits", r"api/limit|rate_limits|sliding_window|api/slots"),
    ("authentication", r"api/auth|key_cache|api_keys|api/operations"),
    ("parse and validate", r"api/requests|shared/schemas|shared/params|api/cost|pydantic"),
    ("create", r"api/submission|shared/jobs|shared/records|api/cache|api/infer|redis_guard"),
    ("Redis client", r"\((redis|hiredis)/|shared/courier"),
    ("wait for the end", r"shared/events|api/connection"),
    ("serialise the answer", r"api/answers|api/tickets"),
    ("headers of every answer", r"api/protection|api/app|api/reply"),
    ("Flask, werkzeug", r"\((flask|werkzeug)/"),
    ("gunicorn", r"\(gunicorn/|api/gunicorn|email/utils"),
    ("gevent", r"gevent/(?!_socket|socket)|shared/greenlets|shared/locks|api/deadline"),
)
_WORKER = (
    ("Flower's events", r"workers/flower"),
    ("telemetry", r"shared/telemetry/|prometheus_client/|opentelemetry/|shared/hooks"),
    ("pipe to the engine", r"workers/host/channel"),
    ("scribe: write", r"workers/scribe"),
    ("claim", r"workers/puller|JobStore.claim"),
    ("executor", r"workers/(executor|guard|retries|quarantine|transient)"),
    ("leases, wake-ups", r"workers/keeper"),
    ("engine client", r"workers/engine_client|workers/engine_process"),
    ("Celery", r"\((celery|kombu|billiard)/"),
)
_ENGINE = (
    ("pipe to the worker", r"workers/host/channel|workers/host/__main__"),
    ("loop", r"workers/host/"),
    ("engine", r"workers/engines/"),
)
_RULES = {
    group: [(stage, re.compile(pattern)) for stage, pattern in rules]
    for group, rules in (("front end", _FRONT_END), ("worker", _WORKER), ("engine", _ENGINE))
}
SAMPLED = tuple(_RULES)
"""Groups of processes whose stacks are looked at."""


def stage_of(group: str, stack: Sequence[str]) -> str:
    """The stage of a stack, its innermost frame last."""
    for frame in reversed(stack):
        for stage, pattern in _RULES[group]:
            if pattern.search(frame):
                return stage
    return OTHER
