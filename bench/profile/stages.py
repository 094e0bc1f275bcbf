"""Which stage of a job's way a stack belongs to. Pure."""

import re
from collections.abc import Sequence

OTHER = "other"

# The innermost frame that a rule knows decides; frames that none knows (the standard library, sockets) belong
# to whoever called them. Frames are spelled `function (path)`.
_FRONT_END = (
    (
        "telemetry",
        r"shared/telemetry/|prometheus_client/|opentelemetry/|api/http/observation|access_log",
    ),
    ("telemetry", r"shared/hooks|logging/__init__"),
    ("limits", r"api/http/limits|rate_limits|token_buckets"),
    ("authentication", r"api/http/auth|key_cache|api_keys|api/http/operations"),
    (
        "parse and validate",
        r"api/http/requests|shared/domain/(schemas|requests)|api/intake/cost|pydantic",
    ),
    (
        "create",
        r"api/intake|shared/store/jobs|shared/domain/records|api/routes/infer|shared/redis/guard",
    ),
    ("Redis client", r"\((redis|hiredis)/|shared/redis/script_pipeline"),
    ("wait for the end", r"shared/store/events|api/http/sse"),
    ("serialise the answer", r"api/http/answers|api/tickets"),
    ("headers of every answer", r"api/http/protection|api/app|api/http/reply"),
    ("Flask, werkzeug", r"\((flask|werkzeug)/"),
    ("gunicorn", r"\(gunicorn/|api/server|email/utils"),
    ("gevent", r"gevent/(?!_socket|socket)|shared/locks"),
)
_WORKER = (
    ("Flower's events", r"workers/operations/flower"),
    ("telemetry", r"shared/telemetry/|prometheus_client/|opentelemetry/|shared/hooks"),
    ("pipe to the engine", r"workers/host_protocol/channel"),
    ("event writer", r"workers/execution/(event_writer|pending_events|completer)"),
    ("claim", r"workers/queue/claimer|JobStore.claim"),
    ("executor", r"workers/execution/"),
    ("leases, wake-ups", r"workers/queue/(lease_renewer|control_listener|worker_report)"),
    ("engine client", r"workers/engine_host/"),
    ("Celery", r"\((celery|kombu|billiard)/"),
)
_ENGINE = (
    ("pipe to the worker", r"workers/host_protocol/channel|workers/host/__main__"),
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
