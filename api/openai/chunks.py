"""A job's events as the chunks of OpenAI's streams, for chats and for completions.

Neither `id:` nor `retry:` is ever sent: OpenAI's Python client takes a blank line for an event once it has
seen one of them, and fails on it.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

import msgspec

from api.openai import chat, completions
from api.openai.errors import stream_error
from api.openai.usage import usage
from shared.domain.events import Event, one_line
from shared.domain.parts import Content, Part, Reasoning, parts_of
from shared.domain.records import Record

RESET = "The model began its text anew, and what this stream has told is not part of it. Ask again."
DONE = b"data: [DONE]\n\n"
_ENCODER = msgspec.json.Encoder()
_DECODE = msgspec.json.Decoder().decode


class Said(msgspec.Struct):
    """The data of a `token` event. `text` is JSON already; `parts` where the text answers a chat, `logprobs`
    where they are wanted.
    """

    text: msgspec.Raw
    choice: int = 0
    parts: list[Part] | None = None
    logprobs: list[dict[str, Any]] | None = None


_SAID = msgspec.json.Decoder(Said)


class Chunks(ABC):
    """The stream of one job, for one reader. `head` are the members that all chunks have.

    `choices` is how many texts the job makes. `tells_usage`: one chunk more at the end, with the usage, which
    is null in all others.
    """

    def __init__(self, head: Mapping[str, Any], choices: int, *, tells_usage: bool) -> None:
        self._head = dict(head)
        self._choices = choices
        self._tells_usage = tells_usage
        tail = b',"usage":null}' if tells_usage else b"}"
        start = _ENCODER.encode(self._head)[:-1] + b',"choices":['
        self._before = [b"data: " + start + self.OPEN % index for index in range(choices)]
        self._after = self.CLOSE + b"]" + tail + b"\n\n"
        self._scored = [0] * choices
        """Of how many tokens of each choice the log-probabilities were told."""

    OPEN: bytes
    """What stands before a text, in a choice of its own."""
    CLOSE: bytes

    @property
    @abstractmethod
    def opening(self) -> bytes:
        """What a reader is told at once: that the stream has begun."""

    @property
    @abstractmethod
    def heartbeat(self) -> bytes:
        """What a reader is told who has heard nothing for a while. Some count chunks, not comments."""

    def frame(self, event: Event) -> bytes | None:
        """See `Form.frame`. A text that begins anew cannot be told: clients would join both."""
        if event.kind != "token":
            return None if event.kind == "reset" else b""
        return self.told(_SAID.decode(event.data))

    def told(self, said: Said) -> bytes:
        """The chunks that tell what a text has said."""
        return self._before[said.choice] + one_line(bytes(said.text)) + self._after

    def end(self, event: Event, record: Record | None) -> bytes:
        """See `Form.end`."""
        if event.kind == "reset":
            return self.broken("stream_reset", RESET)
        if record is None:
            return self.broken("job_not_found", "The job has been deleted.")
        return self.finish(_DECODE(record.to_json()))

    def finish(self, job: Mapping[str, Any]) -> bytes:
        """The last chunks: why each choice has ended, or why there is no text."""
        if job["status"] != "succeeded":
            failed = job["error"] or {
                "code": f"job_{job['status']}",
                "message": "The job has no result.",
            }
            return self.broken(failed["code"], failed["message"])
        texts = list(enumerate(chat.choices(job["output"])))
        chunks = [
            self.chunk([told]) for index, choice in texts for told in self.rest(index, choice)
        ]
        chunks += [self.chunk([self.last(index, choice)]) for index, choice in texts]
        if self._tells_usage:
            chunks.append(_event({**self._head, "choices": [], "usage": usage(job["usage"] or {})}))
        return b"".join(chunks) + DONE

    def broken(self, code: str, detail: str) -> bytes:
        """The end of a stream that cannot go on."""
        return _event({"error": stream_error(code, detail)})

    def chunk(self, choices: list[dict[str, Any]]) -> bytes:
        """A chunk of these choices."""
        told = {"usage": None} if self._tells_usage else {}
        return _event({**self._head, "choices": choices, **told})

    def rest(self, index: int, choice: Mapping[str, Any]) -> list[dict[str, Any]]:  # noqa: ARG002
        """What of a choice is to be told before its last chunk, and has not been."""
        return []

    @abstractmethod
    def last(self, index: int, choice: Mapping[str, Any]) -> dict[str, Any]:
        """The last chunk's member for a choice."""

    def unscored(self, index: int, choice: Mapping[str, Any]) -> Mapping[str, Any]:
        """A choice with those of its log-probabilities that were not told yet."""
        rows = choice.get("logprobs")
        return {"logprobs": rows[self._scored[index] :] or None} if rows else {}


class ChatChunks(Chunks):
    """Of `POST /v1/chat/completions`. Each choice's first chunk has the role, in the order of the choices.

    `may_call`: what an engine says that tells no parts is told once it is complete, so that calls of tools
    stand apart from it.
    """

    OPEN = b'{"index":%d,"delta":{"content":'
    CLOSE = b'},"logprobs":null,"finish_reason":null}'

    def __init__(
        self, head: Mapping[str, Any], choices: int, *, tells_usage: bool, may_call: bool = False
    ) -> None:
        super().__init__(head, choices, tells_usage=tells_usage)
        self._may_call = may_call
        self._told: set[int] = set()
        """The choices of which something was told."""

    def frame(self, event: Event) -> bytes | None:
        """See `Form.frame`. What nobody was told yet can begin anew."""
        if event.kind == "reset" and self._may_call and not self._told:
            return b""
        return super().frame(event)

    def told(self, said: Said) -> bytes:
        """A chunk for each part, in the order in which they came."""
        if said.parts is None and self._may_call:
            return b""
        self._told.add(said.choice)
        if said.parts is None and said.logprobs is None:
            return super().told(said)
        if said.parts is not None and not said.logprobs:
            if len(said.parts) == 1:
                return self._of_part(said.choice, said.parts[0])
            return b"".join([self._of_part(said.choice, part) for part in said.parts])
        parts = [Content(_DECODE(said.text))] if said.parts is None else said.parts
        choices = [_choice(said.choice, _delta(part)) for part in parts]
        if said.logprobs:
            # Tokens of which nothing is shown yet have theirs all the same.
            choices = choices or [_choice(said.choice, {})]
            choices[0]["logprobs"] = chat.logprobs({"logprobs": said.logprobs})
            self._scored[said.choice] += len(said.logprobs)
        return b"".join(self.chunk([choice]) for choice in choices)

    def _of_part(self, choice: int, part: Part) -> bytes:
        if isinstance(part, Content):
            # Nearly all are: what is around their text was encoded once.
            return self._before[choice] + one_line(_ENCODER.encode(part.text)) + self._after
        return self.chunk([_choice(choice, _delta(part))])

    def rest(self, index: int, choice: Mapping[str, Any]) -> list[dict[str, Any]]:
        """See `Chunks.rest`."""
        if not self._may_call or index in self._told:
            return []
        return [_choice(index, _delta(part)) for part in parts_of(chat.message(choice))]

    @property
    def opening(self) -> bytes:
        role = {"role": "assistant", "content": "", "refusal": None}
        return b"".join(self.chunk([_choice(index, role)]) for index in range(self._choices))

    @property
    def heartbeat(self) -> bytes:
        return self.chunk([_choice(0, {})])

    def last(self, index: int, choice: Mapping[str, Any]) -> dict[str, Any]:
        """With the log-probabilities that no event has told."""
        rest = chat.logprobs(self.unscored(index, choice))
        return {
            **_choice(index, {}),
            "logprobs": rest,
            "finish_reason": chat.finish_reason(choice),
        }


class CompletionChunks(Chunks):
    """Of `POST /v1/completions`."""

    OPEN = b'{"index":%d,"text":'
    CLOSE = b',"logprobs":null,"finish_reason":null}'

    def __init__(self, head: Mapping[str, Any], choices: int, *, tells_usage: bool) -> None:
        super().__init__(head, choices, tells_usage=tells_usage)
        self._offset = [0] * choices
        """Where in each choice its next token begins, in characters."""

    def told(self, said: Said) -> bytes:
        """A chunk, with the log-probabilities of its tokens where there are some."""
        if not said.logprobs:
            return super().told(said)
        told = completions.logprobs({"logprobs": said.logprobs}, self._offset[said.choice])
        self._scored[said.choice] += len(said.logprobs)
        self._offset[said.choice] += sum(len(row["token"]) for row in said.logprobs)
        return self.chunk([{**_text(said.choice), "text": _DECODE(said.text), "logprobs": told}])

    @property
    def opening(self) -> bytes:
        return b"".join(self.chunk([_text(index)]) for index in range(self._choices))

    @property
    def heartbeat(self) -> bytes:
        return self.chunk([_text(0)])

    def last(self, index: int, choice: Mapping[str, Any]) -> dict[str, Any]:
        """With the log-probabilities that no event has told."""
        rest = self.unscored(index, choice)
        return {
            **_text(index),
            "logprobs": completions.logprobs(rest, self._offset[index]),
            "finish_reason": completions.finish_reason(choice),
        }


def _delta(part: Part) -> dict[str, Any]:
    """What a part adds to a message. A call has its id, type and name where it begins, and only there."""
    match part:
        case Content():
            return {"content": part.text}
        case Reasoning():
            return {"reasoning_content": part.text}
    begun = {"id": part.id, "type": "function"} if part.id else {}
    name = {"name": part.name} if part.name else {}
    function = {**name, "arguments": part.arguments}
    return {"tool_calls": [{"index": part.index, **begun, "function": function}]}


def _choice(index: int, delta: dict[str, Any]) -> dict[str, Any]:
    return {"index": index, "delta": delta, "logprobs": None, "finish_reason": None}


def _text(index: int) -> dict[str, Any]:
    return {"index": index, "text": "", "logprobs": None, "finish_reason": None}


def _event(document: Mapping[str, Any]) -> bytes:
    return b"data: " + one_line(_ENCODER.encode(document)) + b"\n\n"
