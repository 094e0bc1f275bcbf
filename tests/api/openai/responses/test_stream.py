"""The events of a response's stream: a function of the stored events, item by item."""

import json
from typing import Any

import msgspec
import pytest

from api.openai.responses.documents import Asked, output_items
from api.openai.responses.stream import ResponseStream
from shared.domain.events import CREATED, Event, EventId
from shared.domain.parts import Content, Message, Part, Reasoning, ToolCall
from shared.domain.records import Record

JOB = "job_019aa61c4f3b8f0e3c5d7a9b1e2f4a6c"
ECHO = {"tools": [], "tool_choice": "auto"}
RUNNING = Event(EventId(1, 0), "status", b'{"status":"running","attempt":1}')
THOUGHT, SAID = Reasoning("Hm"), Content("It is ")
CALL = ToolCall(0, '{"a"', "call_1", "look_up")
Told = list[dict[str, Any]]


def token(seq: int, *parts: Part, attempt: int = 1) -> Event:
    data = msgspec.json.encode({"text": "x", "index": seq, "parts": parts})
    return Event(EventId(attempt, seq), "token", data)


def ended(*parts: Part, reason: str = "stop", **fields: str) -> Record:
    """The job that said these parts."""
    message = Message()
    message.add(parts)
    output = {"text": "x", "finish_reason": reason, "message": message.to_json()}
    return Record(
        {
            "id": JOB,
            "model": "m",
            "state": "succeeded",
            "created": "0",
            "attempt": "1",
            "finished": "1000",
            "output": json.dumps(output),
            "usage": "{}",
            **fields,
        }
    )


def stream(after: int = -1, **echo: Any) -> ResponseStream:
    return ResponseStream(JOB, "m", {}, Asked([], {**ECHO, **echo}), after)


def told(form: ResponseStream, record: Record, *events: Event) -> Told:
    body = form.opening
    for event in (CREATED, RUNNING, *events):
        body += form.frame(event) or b""
    body += form.end(Event(EventId(9, 9), "done", b"{}"), record)
    frames = [frame.split(b"\ndata: ")[-1] for frame in body.split(b"\n\n") if b"data: " in frame]
    return [json.loads(frame) for frame in frames]


def kinds(events: Told) -> list[str]:
    """What came between the beginning and the end, shortened."""
    return [event["type"].removeprefix("response.") for event in events[3:-1]]


def test_thoughts_words_and_calls_are_items_in_their_order() -> None:
    parts: list[Part] = [THOUGHT, SAID, Content("20."), CALL, ToolCall(0, ":1}")]
    record = ended(*parts)

    events = told(stream(), record, *(token(seq, part) for seq, part in enumerate(parts, 1)))

    assert kinds(events) == [
        *("output_item.added", "content_part.added", "reasoning_text.delta"),
        *("reasoning_text.done", "content_part.done", "output_item.done"),
        *("output_item.added", "content_part.added", "output_text.delta", "output_text.delta"),
        *("output_item.added", "function_call_arguments.delta", "function_call_arguments.delta"),
        *("output_text.done", "content_part.done", "output_item.done"),
        *("function_call_arguments.done", "output_item.done"),
    ]
    output = events[-1]["response"]["output"]
    done = {e["output_index"]: e["item"] for e in events if e["type"].endswith("item.done")}
    assert output == output_items(json.loads(record.to_json()))
    assert [done[index] for index in range(3)] == output
    added = [event["item"] for event in events if event["type"].endswith("item.added")]
    assert [item["id"] for item in added] == [item["id"] for item in output]
    assert (added[2]["name"], added[2]["call_id"], added[2]["arguments"]) == (
        *("look_up", "call_1"),
        "",
    )


@pytest.mark.parametrize(
    "parts",
    [
        [SAID],
        [THOUGHT],
        [CALL],
        [],
        [THOUGHT, CALL, ToolCall(1, "{}", "call_2", "other")],
        [SAID, CALL, Content("late")],
        [Content("\u2028\u0085\x00é🎉")],
    ],
    ids=["said", "thought", "called", "nothing", "two calls", "said between", "line ends"],
)
@pytest.mark.parametrize("pieces", ["apart", "at once", "none"])
def test_deltas_add_up_and_the_last_event_is_what_is_stored(parts: list[Part], pieces: str) -> None:
    events = [token(seq, part) for seq, part in enumerate(parts, 1)]
    if pieces != "apart":
        events = [token(1, *parts)] if pieces == "at once" else []
    record = ended(*parts)

    whole = told(stream(), record, *events)

    assert [event["sequence_number"] for event in whole] == list(range(len(whole)))
    assert whole[-1]["response"]["output"] == output_items(json.loads(record.to_json()))
    for item in whole[-1]["response"]["output"]:
        text = item["arguments"] if "arguments" in item else item["content"][0]["text"]
        deltas = [e["delta"] for e in whole if e.get("item_id") == item["id"] and "delta" in e]
        assert "".join(deltas) == text
    for after in range(len(whole)):
        assert told(stream(after), record, *events) == whole[after + 1 :]


def test_a_text_that_is_cut_is_incomplete() -> None:
    *_, done, last = told(stream(), ended(SAID, reason="length"), token(1, SAID))

    assert last["type"] == "response.incomplete"
    assert done["item"]["status"] == "incomplete" == last["response"]["status"]


def test_attempts_do_not_show() -> None:
    again = Event(EventId(2, 0), "status", b'{"status":"running","attempt":2}')
    retry = Event(EventId(1, 2), "status", b'{"status":"queued","attempt":1}')
    record = ended(SAID, Content("20."))
    pieces = token(1, SAID), token(1, Content("20."), attempt=2)

    once = told(stream(), record, *pieces)

    assert told(stream(), record, pieces[0], retry, again, pieces[1]) == once


def test_a_text_without_parts_is_told_at_once_unless_it_may_call() -> None:
    plain = Event(EventId(1, 1), "token", b'{"text":"It is ","index":0}')
    tools = {"tools": [{"name": "look_up"}]}

    assert b"It is " in (stream().frame(plain) or b"")
    assert stream(**tools).frame(plain) == b""
    assert kinds(told(stream(**tools), ended(CALL), plain))[0] == "output_item.added"


def test_log_probabilities_come_with_the_whole_item() -> None:
    rows = [{"token": "It", "logprob": -0.5, "top": [{"token": "It", "logprob": -0.5}]}]
    output = {"text": "It", "finish_reason": "stop", "logprobs": rows}
    record = ended(output=json.dumps(output))

    events = told(stream(), record, token(1, Content("It")))

    [done] = [event for event in events if event["type"] == "response.output_text.done"]
    assert done["logprobs"][0]["top_logprobs"] == [
        {"token": "It", "bytes": [73, 116], "logprob": -0.5}
    ]
    [delta] = [event for event in events if event["type"] == "response.output_text.delta"]
    assert delta["logprobs"] == []


def test_a_reader_is_told_at_once_that_the_stream_has_begun() -> None:
    assert stream(after=5).opening == stream().heartbeat
    assert stream(after=0).opening.count(b"data: ") == 1


def test_a_response_that_is_deleted_meanwhile_ends_its_stream_with_an_error() -> None:
    [event] = stream().end(Event(EventId(1, 1), "done", b"{}"), None).split(b"\n\n")[:-1]

    assert event.startswith(b"event: error\n") and b'"error":{"message"' in event
