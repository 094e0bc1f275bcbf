"""A job's events as chunks."""

import json
from typing import Any

import pytest

from api.openai.chunks import DONE, ChatChunks, Chunks, CompletionChunks
from shared.domain.events import Event, EventId

HEAD = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 5, "model": "llama"}


def chunks(body: bytes) -> list[dict[str, Any]]:
    """The documents of a stream's frames, without its end."""
    frames = body.removesuffix(DONE).split(b"\n\n")
    assert frames.pop() == b""
    return [json.loads(frame.removeprefix(b"data: ")) for frame in frames]


def token(text: str, choice: int | None = None, **more: Any) -> Event:
    data: dict[str, Any] = {"text": text, "index": 0, **more}
    if choice is not None:
        data["choice"] = choice
    return Event(EventId(1, 1), "token", json.dumps(data, ensure_ascii=False).encode())


def succeeded(*texts: str, reason: str = "stop") -> dict[str, Any]:
    found = [{"index": n, "text": text, "finish_reason": reason} for n, text in enumerate(texts)]
    output = {**found[0], "choices": found} if len(found) > 1 else found[0]
    return {"status": "succeeded", "output": output, "usage": {"prompt_tokens": 3}, "error": None}


def test_a_chat_from_its_role_to_its_end() -> None:
    stream = ChatChunks(HEAD, 1, tells_usage=False)
    told = chunks(stream.opening + stream.frame(token("Hi")) + stream.finish(succeeded("Hi")))

    assert [chunk["choices"][0]["delta"] for chunk in told] == [
        {"role": "assistant", "content": "", "refusal": None},
        {"content": "Hi"},
        {},
    ]
    assert [chunk["choices"][0]["finish_reason"] for chunk in told] == [None, None, "stop"]
    assert all({**HEAD}.items() <= chunk.items() and "usage" not in chunk for chunk in told)
    assert stream.finish(succeeded("Hi")).endswith(DONE)


def test_usage_is_null_but_in_a_last_chunk_without_choices() -> None:
    stream = ChatChunks(HEAD, 1, tells_usage=True)
    *told, last = chunks(
        stream.opening + stream.frame(token("Hi")) + stream.finish(succeeded("Hi"))
    )

    assert {chunk["usage"] for chunk in told} == {None}
    assert last["choices"] == []
    assert last["usage"]["prompt_tokens"] == 3


def test_choices_appear_in_their_order_whoever_speaks_first() -> None:
    stream = ChatChunks(HEAD, 3, tells_usage=False)
    told = chunks(
        stream.opening + stream.frame(token("b", 2)) + stream.finish(succeeded("", "", "b"))
    )

    assert [chunk["choices"][0]["index"] for chunk in told] == [0, 1, 2, 2, 0, 1, 2]


def test_a_text_is_one_line_to_every_client_and_comes_back_whole() -> None:
    text = 'a\u2028b\u2029c\u0085d\ne"f'
    frame = ChatChunks(HEAD, 1, tells_usage=False).frame(token(text))

    assert len(frame.decode().splitlines()) == 2
    assert chunks(frame)[0]["choices"][0]["delta"]["content"] == text


def test_events_without_text_say_nothing() -> None:
    status = Event(EventId(1, 0), "status", b'{"status":"running"}')

    assert ChatChunks(HEAD, 1, tells_usage=False).frame(status) == b""


def test_a_text_begun_anew_ends_the_stream() -> None:
    """Clients would join both texts."""
    stream = ChatChunks(HEAD, 1, tells_usage=False)
    reset = Event(EventId(2, 1), "reset", b"{}")

    assert stream.frame(reset) is None
    (error,) = chunks(stream.end(reset, None))
    assert error["error"]["code"] == "stream_reset"


@pytest.mark.parametrize(
    ("job", "code"),
    [
        ({"status": "failed", "error": {"code": "engine_error", "message": "No."}}, "engine_error"),
        ({"status": "canceled", "error": None}, "job_canceled"),
    ],
)
def test_a_job_that_fails_ends_with_an_error_that_nobody_tries_again(job: Any, code: str) -> None:
    body = ChatChunks(HEAD, 1, tells_usage=False).finish(job)

    (told,) = chunks(body)
    assert told["error"]["code"] == code
    assert "invalid" in told["error"]["type"]
    assert DONE not in body


@pytest.mark.parametrize("kind", [ChatChunks, CompletionChunks])
def test_never_an_id_and_never_a_retry(kind: type[Chunks]) -> None:
    stream = kind(HEAD, 2, tells_usage=True)
    body = (
        stream.opening
        + stream.heartbeat
        + stream.frame(token("x"))
        + stream.finish(succeeded("x", "y"))
    )

    assert {line.split(b":")[0] for line in body.splitlines() if line} == {b"data"}


def test_who_waits_is_told_a_chunk_that_says_nothing_for_some_count_chunks_and_not_comments() -> (
    None
):
    [chat] = chunks(ChatChunks(HEAD, 2, tells_usage=True).heartbeat)
    [text] = chunks(CompletionChunks(HEAD, 2, tells_usage=True).heartbeat)

    assert chat["choices"] == [{"index": 0, "delta": {}, "logprobs": None, "finish_reason": None}]
    assert text["choices"][0]["text"] == ""
    assert chat["usage"] is text["usage"] is None


def test_completions_have_text() -> None:
    stream = CompletionChunks({**HEAD, "object": "text_completion"}, 1, tells_usage=False)
    told = chunks(
        stream.opening + stream.frame(token("Hi")) + stream.finish(succeeded("Hi", reason="length"))
    )

    assert [(c["choices"][0]["text"], c["choices"][0]["finish_reason"]) for c in told] == [
        ("", None),
        ("Hi", None),
        ("", "length"),
    ]


def test_the_parts_of_a_message_are_told_as_they_come() -> None:
    stream = ChatChunks(HEAD, 2, tells_usage=False, may_call=True)
    begun = {"type": "tool_call", "index": 0, "id": "call_0", "name": "f", "arguments": ""}
    more = {"type": "tool_call", "index": 0, "arguments": "{}"}
    said = [{"type": "reasoning", "text": "hm"}, {"type": "content", "text": "So:"}]
    call = {"id": "call_0", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    message = {"role": "assistant", "content": "So:", "tool_calls": [call]}
    texts = [
        {"text": "…", "finish_reason": "stop", "message": message},
        {"text": "x", "finish_reason": "stop", "message": {"role": "assistant", "content": "x"}},
    ]
    output = {**texts[0], "choices": texts}

    assert stream.frame(token("<think>", parts=[])) == b""
    body = stream.frame(token("hm</think>So:", parts=said))
    body += stream.frame(token("<tool_call>", parts=[begun])) + stream.frame(
        token("{}", parts=[more])
    )
    assert stream.frame(Event(EventId(2, 1), "reset", b"{}")) is None
    told = [chunk["choices"][0] for chunk in chunks(body)]
    end = [
        chunk["choices"][0]
        for chunk in chunks(
            stream.finish({"status": "succeeded", "output": output, "usage": {}, "error": None})
        )
    ]

    first = {"index": 0, "id": "call_0", "type": "function"}
    assert [choice["delta"] for choice in told] == [
        {"reasoning_content": "hm"},
        {"content": "So:"},
        {"tool_calls": [{**first, "function": {"name": "f", "arguments": ""}}]},
        {"tool_calls": [{"index": 0, "function": {"arguments": "{}"}}]},
    ]
    # Of the other one nothing was told before its end.
    assert [(choice["index"], choice["delta"]) for choice in end] == [
        (1, {"content": "x"}),
        (0, {}),
        (1, {}),
    ]
    assert [choice["finish_reason"] for choice in end] == [None, "tool_calls", "stop"]


ROWS = [
    {"token": token, "token_id": n, "logprob": -0.5, "top": [{"token": token, "logprob": -0.5}]}
    for n, token in enumerate(("H", "i", "!"))
]


def scored(*rows: dict[str, Any]) -> dict[str, Any]:
    job = succeeded("Hi!")
    return {**job, "output": {**job["output"], "logprobs": list(rows)}}


@pytest.mark.parametrize("told", [0, 2, 3])
def test_each_chunk_of_a_chat_has_the_log_probabilities_of_its_tokens(told: int) -> None:
    stream = ChatChunks(HEAD, 1, tells_usage=False)
    part = {"type": "content", "text": "H"}
    events = [token("H", parts=[part], logprobs=ROWS[:1]), token("i", parts=[], logprobs=ROWS[1:2])]
    events += [token("!", logprobs=ROWS[2:])]

    body = b"".join(stream.frame(event) or b"" for event in events[:told])
    found = [chunk["choices"][0] for chunk in chunks(body + stream.finish(scored(*ROWS)))]

    rows = [row for choice in found if choice["logprobs"] for row in choice["logprobs"]["content"]]
    assert [row["token"] for row in rows] == ["H", "i", "!"]
    assert rows[0] == {
        "token": "H",
        "bytes": [72],
        "logprob": -0.5,
        "top_logprobs": [{"token": "H", "bytes": [72], "logprob": -0.5}],
    }
    assert (found[-1]["logprobs"] is None) == (told == 3)
    assert [choice["delta"] for choice in found[:2]][: min(told, 2)] == [{"content": "H"}, {}][
        :told
    ]


def test_each_chunk_of_a_completion_has_the_log_probabilities_of_its_tokens() -> None:
    stream = CompletionChunks(HEAD, 1, tells_usage=False)
    events = [token("Hi", logprobs=ROWS[:2])]

    body = b"".join(stream.frame(event) or b"" for event in events)
    first, last = (chunk["choices"][0] for chunk in chunks(body + stream.finish(scored(*ROWS))))

    assert first["text"] == "Hi"
    assert (first["logprobs"]["tokens"], first["logprobs"]["text_offset"]) == (["H", "i"], [0, 1])
    assert (last["logprobs"]["tokens"], last["logprobs"]["text_offset"]) == (["!"], [2])


def test_without_parts_an_answer_that_may_call_tools_is_told_when_it_is_complete() -> None:
    stream = ChatChunks(HEAD, 1, tells_usage=False, may_call=True)
    calls = [
        {"id": f"call_{n}", "type": "function", "function": {"name": "f", "arguments": "{}"}}
        for n in range(2)
    ]
    said = {"role": "assistant", "content": "So:", "reasoning_content": "hm", "tool_calls": calls}
    output = {"text": "…", "finish_reason": "stop", "message": said}
    job = {"status": "succeeded", "output": output, "usage": {}, "error": None}

    assert stream.frame(token("<tool_call>")) == b""
    assert stream.frame(Event(EventId(2, 1), "reset", b"{}")) == b""
    *told, last = (chunk["choices"][0] for chunk in chunks(stream.finish(job)))

    assert [choice["delta"] for choice in told[:2]] == [
        {"reasoning_content": "hm"},
        {"content": "So:"},
    ]
    deltas = [choice["delta"]["tool_calls"][0] for choice in told[2:]]
    assert [(one["index"], one["id"]) for one in deltas] == [(0, "call_0"), (1, "call_1")]
    assert [one["function"] for one in deltas] == 2 * [{"name": "f", "arguments": "{}"}]
    assert last["finish_reason"] == "tool_calls"
