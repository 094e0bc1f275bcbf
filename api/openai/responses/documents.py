"""A job, and what was asked of it, as a response with its items. Ids are made of the job's."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import msgspec

from api.openai import chat
from api.openai.ids import created, named
from api.openai.responses.items import Item

PREFIX = "resp_"
PREFIXES = {
    "message": "msg",
    "function_call": "fc",
    "function_call_output": "fco",
    "reasoning": "rs",
}
STATUSES = {"running": "in_progress", "failed": "failed", "expired": "failed"}
AT_FAULT = ("invalid_prompt", "invalid_request_error")
BROKEN = ("server_error", "server_error")
"""OpenAI's code and type of what has failed, by whether the request was at fault."""
REQUEST_FAULTS = frozenset({"invalid_input", "poison_input", "prompt_too_long", "output_too_large"})
EXPIRED = "The deadline passed before there was a result."
_ENCODER = msgspec.json.Encoder()


class Asked(msgspec.Struct, frozen=True):
    """What was asked, as it is kept with the job.

    `items` are all that came before the answer, those of earlier responses with their ids; `echo` are the
    members that a response repeats of its request.
    """

    items: list[Item]
    echo: dict[str, Any]

    @property
    def may_call(self) -> bool:
        """Whether the answer may call tools."""
        return bool(self.echo["tools"]) and self.echo["tool_choice"] != "none"

    def to_json(self) -> bytes:
        """What was asked, as the store keeps it: by name, for other dialects have theirs in that place."""
        return _ENCODER.encode({"response": self})


class _Kept(msgspec.Struct):
    response: Asked | None = None


_KEPT = msgspec.json.Decoder(_Kept)


def asked_of(kept: bytes) -> Asked | None:
    """What `Asked.to_json` has made; None where it is of another dialect."""
    return _KEPT.decode(kept).response


def job_id_of(response_id: str) -> str:
    """The id of a response's job; of anything else, an id that no job has."""
    return "job_" + response_id.removeprefix(PREFIX) if response_id.startswith(PREFIX) else ""


def item_id(kind: str, job_id: str, place: str) -> str:
    """The id of an item. `place`: its index among its kind in the output, or `i` and that in the input."""
    return f"{PREFIXES[kind]}_{job_id.removeprefix('job_')}_{place}"


def input_items(job_id: str, asked: Asked) -> list[Item]:
    """All items before the answer, each with an id of its own."""
    seen: set[str] = set()
    found = []
    for index, item in enumerate(asked.items):
        name = item.get("id")
        if name is None or name in seen:
            name = item_id(item["type"], job_id, f"i{index}")
        seen.add(name)
        found.append({**item, "id": name})
    return found


def output_items(job: Mapping[str, Any]) -> list[Item]:
    """The items of a job's answer: what was thought, what is said, and what is called."""
    if job["status"] != "succeeded":
        return []
    said = message_of(job)
    found: list[Item] = []
    if thoughts := said.get("reasoning_content"):
        found.append(reasoning_item(job["id"], thoughts))
    calls = said.get("tool_calls") or ()
    if said["content"] or not (calls or found):
        logprobs = (chat.logprobs(_choice(job)) or {}).get("content")
        found.append(message_item(job["id"], said["content"] or "", logprobs))
    for index, call in enumerate(calls):
        found.append(call_item(job["id"], index, call["id"], **call["function"]))
    if incomplete(job) and found[-1]["type"] != "reasoning":
        found[-1]["status"] = "incomplete"
    return found


def message_of(job: Mapping[str, Any]) -> dict[str, Any]:
    """What the assistant says in a job that succeeded."""
    return chat.message(_choice(job))


def reasoning_item(job_id: str, text: str | None) -> Item:
    """What was thought; None: nothing of it yet."""
    content = [] if text is None else [{"type": "reasoning_text", "text": text}]
    name = item_id("reasoning", job_id, "0")
    return {"id": name, "type": "reasoning", "summary": [], "content": content}


def message_item(job_id: str, text: str | None, logprobs: Sequence[Any] | None = None) -> Item:
    """What is said; None: nothing of it yet."""
    content = [] if text is None else [text_part(text, logprobs)]
    status = "in_progress" if text is None else "completed"
    said = {"status": status, "role": "assistant", "content": content}
    return {"id": item_id("message", job_id, "0"), "type": "message", **said}


def text_part(text: str, logprobs: Sequence[Any] | None = None) -> dict[str, Any]:
    """The one part of a message."""
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": logprobs or []}


def call_item(
    job_id: str, index: int, call_id: str, name: str, arguments: str, status: str = "completed"
) -> Item:
    """The n-th call of a function."""
    called = {"call_id": call_id, "name": name, "arguments": arguments, "status": status}
    return {"id": item_id("function_call", job_id, str(index)), "type": "function_call", **called}


def incomplete(job: Mapping[str, Any]) -> bool:
    """Whether the text has met its length."""
    return chat.finish_reason(_choice(job)) == "length"


def _choice(job: Mapping[str, Any]) -> Mapping[str, Any]:
    """The one text of a response's job."""
    return next(iter(chat.choices(job["output"])))


def status_of(job: Mapping[str, Any]) -> str:
    """A response's status. An attempt that failed and is tried again is none of the client's business."""
    match job["status"]:
        case "succeeded":
            return "incomplete" if incomplete(job) else "completed"
        case "canceled":
            return "cancelled"
        case "queued":
            return "in_progress" if job["attempt"] else "queued"
    return STATUSES[job["status"]]


def response(
    job: Mapping[str, Any], asked: Asked, output: Sequence[Item] | None = None
) -> dict[str, Any]:
    """The response. `job` is the job's document, `output` its items where they are known already."""
    status = status_of(job)
    ended = job["finished_at"] if status == "completed" else None
    return {
        "id": named(PREFIX, job["id"]),
        "object": "response",
        "created_at": created(job["id"]),
        "status": status,
        "completed_at": int(datetime.fromisoformat(ended).timestamp()) if ended else None,
        "error": _error(job),
        "incomplete_details": {"reason": "max_output_tokens"} if status == "incomplete" else None,
        "model": job["model"],
        "output": output_items(job) if output is None else output,
        "usage": usage(job["usage"]) if job["usage"] else None,
        "metadata": job["metadata"],
        **asked.echo,
    }


def unended(
    job_id: str, model: str, metadata: Mapping[str, str], status: str, asked: Asked
) -> dict[str, Any]:
    """The response while its job waits (`queued`) or runs (`running`): what was asked says all of it."""
    job = {"id": job_id, "model": model, "metadata": metadata, "status": status, "attempt": 0}
    nothing = dict.fromkeys(("output", "error", "usage", "finished_at"))
    return response({**job, **nothing}, asked)


def usage(used: Mapping[str, Any]) -> dict[str, Any]:
    """What a job used. A count that is not known is 0."""
    said = {name: used.get(f"{name}_tokens") or 0 for name in ("prompt", "completion")}
    cached = {"cached_tokens": used.get("cached_tokens") or 0, "cache_write_tokens": 0}
    thought = {"reasoning_tokens": used.get("reasoning_tokens") or 0}
    return {
        "input_tokens": said["prompt"],
        "input_tokens_details": cached,
        "output_tokens": said["completion"],
        "output_tokens_details": thought,
        "total_tokens": said["prompt"] + said["completion"],
    }


def _error(job: Mapping[str, Any]) -> dict[str, Any] | None:
    """Why a response has failed, by OpenAI's codes: there are but few."""
    if job["status"] not in ("failed", "expired"):
        return None
    failed = job["error"] or {"code": "job_expired", "message": EXPIRED}
    code, kind = AT_FAULT if failed["code"] in REQUEST_FAULTS else BROKEN
    return {"code": code, "message": failed["message"], "type": kind, "param": None}
