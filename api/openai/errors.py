"""Errors as OpenAI's clients read them: what they may try again, and what they must not."""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from api.http.reply import Reply
from shared.domain.errors import PROBLEMS

CODES = {"prompt_too_long": "context_length_exceeded", "unknown_model": "model_not_found"}
"""OpenAI's code, where it has one for the same."""
TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    429: "rate_limit_error",
}
INVALID, SERVER = "invalid_request_error", "server_error"
MOST_WAIT = 60
"""Seconds. Above 120 the Python client gives up, and node's sleeps however long it is told."""
FINAL_STATUS = 424
"""Failed Dependency: of a job that has ended without success for no fault of the request. No client tries a
4xx again, but 408, 409 and 429."""
ENDED = frozenset(
    {
        "engine_error",
        "out_of_memory",
        "worker_crashed",
        "run_timeout",
        "job_canceled",
        "job_expired",
    }
)
"""How a job ends without success: it has been tried as often as it may, so nobody is to ask for it again."""
FINAL_STREAM_TYPE = INVALID
"""The AI SDK tries an error again that comes before any output, unless its type says `invalid`."""


def to_openai(answer: Reply) -> Reply:
    """An answer that is a problem document, as these routes give it."""
    document = told(msgspec.json.decode(answer.body))
    reply = Reply(msgspec.json.encode(document), document["status"], "application/json")
    for name, value in answer.headers.items():
        if name not in ("Content-Type", "Content-Length"):
            reply.headers[name] = value
    if "Retry-After" in reply.headers:
        reply.headers["Retry-After"] = str(min(int(reply.headers["Retry-After"]), MOST_WAIT))
    if final(document["code"], document["status"]):
        reply.headers["x-should-retry"] = "false"
    return reply


def told(document: Mapping[str, Any]) -> dict[str, Any]:
    """A problem document with its status here, and with OpenAI's `error` member beside its own."""
    code, faults = document["code"], document.get("errors")
    status = _status(code, document["status"])
    return {**document, "status": status, "error": error(code, document["detail"], status, faults)}


def status_of(code: str) -> int:
    """The HTTP status of a problem here: what clients must not try again has one that they do not."""
    return _status(code, PROBLEMS[code].status)


def _status(code: str, status: int) -> int:
    if code in ENDED:
        return FINAL_STATUS
    return 400 if status in (409, 422) else status


def final(code: str, status: int) -> bool:
    """Whether to ask again would bring the same."""
    return code in ENDED or (400 <= status < 500 and status not in (408, 429))


def error(
    code: str, detail: str, status: int, faults: Sequence[Mapping[str, Any]] | None = None
) -> dict[str, Any]:
    """OpenAI's `error` member. `faults` are the rows of a problem document's `errors`."""
    message = detail
    if code == "prompt_too_long" and "prompt is too long" not in detail.lower():
        # LangChain looks for these words.
        message = f"The prompt is too long. {detail}"
    kind = TYPES.get(status) or (SERVER if status >= 500 or code in ENDED else INVALID)
    return {
        "message": message,
        "type": kind,
        "param": _param(faults[0]["loc"]) if faults else None,
        "code": CODES.get(code, code),
    }


def stream_error(code: str, detail: str) -> dict[str, Any]:
    """The `error` member in a stream, after which nothing comes. It is never tried again."""
    status = status_of(code) if code in PROBLEMS else FINAL_STATUS
    return {**error(code, detail, status), "type": FINAL_STREAM_TYPE}


def _param(loc: Sequence[str | int]) -> str | None:
    """Where the fault is, by OpenAI's names: `messages[0].role`."""
    parts = list(loc)
    if (
        parts
        and parts[0] in ("input", "params", "prompt")
        and len(parts) > 1
        and isinstance(parts[1], str)
    ):
        parts = parts[1:]
    if parts == ["max_new_tokens"]:
        parts = ["max_tokens"]
    path = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in parts)
    return path.removeprefix(".") or None
