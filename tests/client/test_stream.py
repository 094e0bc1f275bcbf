from itertools import pairwise
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from client import ApiError, Client, ConnectionFailed, Event, Job, message_of, stream, text_of
from tests.client.conftest import (
    ScriptedServer,
    answer,
    events,
    frame,
    hang_up,
    job_json,
    problem,
)

RETRY = b"retry: 1\n\n"
TEXTS = ["The ", "fünc", "tion ", "retürns ", "😀"]
DONE = frame("done", job_json(status="succeeded", output={"text": "".join(TEXTS)}), "1-9")


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "FIRST_RETRY_MS", 1)


def tokens(*numbers: int) -> bytes:
    return b"".join(frame("token", {"text": TEXTS[n], "index": n}, f"1-{n + 1}") for n in numbers)


def last_ids(server: ScriptedServer) -> list[str | None]:
    return [seen.headers.get("Last-Event-ID") for seen in server.seen]


def test_the_texts_of_several_choices_are_told_apart() -> None:
    told = [("a", None), ("x", 1), ("b", 0), ("y", 1)]
    received = [
        Event("token", {"text": text} | ({} if choice is None else {"choice": choice}), f"1-{n}")
        for n, (text, choice) in enumerate(told)
    ]
    assert [event.choice for event in received] == [0, 1, 0, 1]
    assert [text_of(received, choice) for choice in range(3)] == ["ab", "xy", ""]


def test_the_parts_of_a_message_add_up_after_the_last_reset() -> None:
    call = {"type": "tool_call", "index": 0, "id": "call_0", "name": "look", "arguments": ""}
    told: list[tuple[str, dict[str, Any]]] = [
        ("token", {"text": "gone", "parts": [{"type": "content", "text": "gone"}]}),
        ("reset", {"attempt": 2}),
        ("token", {"text": "<think>hm", "parts": [{"type": "reasoning", "text": "hm"}]}),
        ("token", {"text": "x", "choice": 1, "parts": [{"type": "content", "text": "x"}]}),
        ("token", {"text": "So", "parts": [{"type": "content", "text": "So"}, call]}),
        ("token", {"text": "{}", "parts": [{"type": "tool_call", "index": 0, "arguments": "{}"}]}),
        ("token", {"text": "a", "parts": [{"type": "news"}]}),
    ]
    received = [Event(kind, data, f"1-{n}") for n, (kind, data) in enumerate(told)]

    function = {"name": "look", "arguments": "{}"}
    assert message_of(received) == {
        "role": "assistant",
        "content": "So",
        "reasoning_content": "hm",
        "tool_calls": [{"id": "call_0", "type": "function", "function": function}],
    }
    assert message_of(received, 1) == {"role": "assistant", "content": "x"}
    assert message_of([]) == {"role": "assistant", "content": ""}


def test_a_stream_ends_with_done(client: Client, server: ScriptedServer) -> None:
    server.replies = [
        events(RETRY + frame("status", {"status": "running"}, "1-0") + tokens(0), DONE)
    ]

    received = list(Job.parse(job_json(), client).stream())

    assert [event.type for event in received] == ["status", "token", "done"]
    assert received[-1].data["status"] == "succeeded"
    assert [seen.path for seen in server.seen] == ["/v1/jobs/job_1/events"]


def test_a_cut_stream_goes_on_after_its_last_whole_event(
    client: Client, server: ScriptedServer
) -> None:
    server.replies = [
        events(RETRY + tokens(0, 1) + tokens(2)[:-1]),
        hang_up,
        events(RETRY + tokens(2, 3), b"id: 1-5\nevent: tok"),
        events(RETRY + tokens(4) + DONE),
    ]

    received = list(client.events("job_1"))

    assert text_of(received) == "".join(TEXTS)
    assert last_ids(server) == [None, "1-2", "1-2", "1-4"]


@settings(
    max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.lists(st.integers(1, 600), max_size=4))
def test_wherever_it_is_cut_the_text_is_the_same(
    client: Client, server: ScriptedServer, cuts: list[int]
) -> None:
    frames = [tokens(number) for number in range(len(TEXTS))] + [DONE]
    ids = [f"1-{number + 1}" for number in range(len(TEXTS))]
    server.seen.clear()

    def resume(handler) -> None:
        last = handler.headers.get("Last-Event-ID")
        body = RETRY + b"".join(frames[ids.index(last) + 1 if last else 0 :])
        end = cuts[len(server.seen) - 1] if len(server.seen) <= len(cuts) else len(body)
        middle = end // 2
        events(body[:middle], body[middle:end])(handler)

    server.replies = [resume]

    received = list(client.events("job_1"))

    assert [event.id for event in received] == [*ids, "1-9"]
    assert text_of(received) == "".join(TEXTS)


def test_a_reset_voids_what_came_before(client: Client, server: ScriptedServer) -> None:
    server.replies = [
        events(RETRY + tokens(0, 1) + frame("reset", {"attempt": 2}, "2-0")),
        events(RETRY + frame("token", {"text": "new", "index": 0}, "2-1") + DONE),
    ]

    received = list(client.events("job_1"))

    assert [event.type for event in received] == ["token", "token", "reset", "token", "done"]
    assert text_of(received) == "new"


def test_nothing_after_the_end_is_an_empty_stream(client: Client, server: ScriptedServer) -> None:
    server.replies = [answer(None, 204)]

    assert list(client.events("job_1", after="1-9")) == []
    assert last_ids(server) == ["1-9"]


def test_it_gives_up_after_failures_in_a_row(client: Client, server: ScriptedServer) -> None:
    server.replies = [events(RETRY), hang_up, events(RETRY), hang_up]

    with pytest.raises(ConnectionFailed):
        list(client.events("job_1"))

    assert len(server.seen) == 4


def test_a_server_that_was_never_there_is_given_up_sooner(
    client: Client, server: ScriptedServer
) -> None:
    server.replies = [hang_up]

    with pytest.raises(ConnectionFailed):
        list(client.events("job_1"))

    assert len(server.seen) == stream.FIRST_TRIES


def test_every_event_renews_its_patience(client: Client, server: ScriptedServer) -> None:
    server.replies = [
        *(reply for number in range(5) for reply in (hang_up, events(RETRY + tokens(number)))),
        events(DONE),
    ]

    assert text_of(client.events("job_1")) == "".join(TEXTS)


def test_a_busy_server_is_tried_again(client: Client, server: ScriptedServer) -> None:
    server.replies = [events(RETRY), problem(503, "redis_unavailable"), events(tokens(0) + DONE)]

    assert [event.type for event in client.events("job_1")] == ["token", "done"]


@pytest.mark.parametrize(("status", "code"), [(404, "job_not_found"), (410, "events_expired")])
def test_what_another_try_cannot_change_is_raised_at_once(
    client: Client, server: ScriptedServer, status: int, code: str
) -> None:
    server.replies = [problem(status, code)]

    with pytest.raises(ApiError) as caught:
        list(client.events("job_1"))

    assert caught.value.code == code
    assert len(server.seen) == 1


def test_an_answer_that_is_no_stream_is_an_error(client: Client, server: ScriptedServer) -> None:
    server.replies = [answer({"hello": "world"})]
    with pytest.raises(ApiError, match="not_a_stream"):
        list(client.events("job_1"))


def test_infer_stream_resumes_its_own_job(client: Client, server: ScriptedServer) -> None:
    server.replies = [
        events(RETRY + tokens(0, 1), Content_Location="/v1/jobs/job_7"),
        events(RETRY + tokens(2, 3, 4) + DONE),
    ]

    assert text_of(client.stream("echo", "hi")) == "".join(TEXTS)

    assert [(seen.method, seen.path) for seen in server.seen] == [
        ("POST", "/v1/infer/stream"),
        ("GET", "/v1/jobs/job_7/events"),
    ]
    assert last_ids(server) == [None, "1-2"]


def test_infer_stream_that_never_opened_is_posted_again_under_the_same_key(
    client: Client, server: ScriptedServer
) -> None:
    server.replies = [hang_up, events(tokens(0) + DONE, Location="/v1/jobs/job_7")]

    assert [event.type for event in client.stream("echo", "hi")] == ["token", "done"]

    first, second = server.seen
    assert first.headers["Idempotency-Key"] == second.headers["Idempotency-Key"]


def test_ids_never_go_back(client: Client, server: ScriptedServer) -> None:
    server.replies = [events(RETRY + tokens(0, 1, 2)), events(RETRY + tokens(3, 4) + DONE)]

    ids = [event.id for event in client.events("job_1")]

    assert all(before < after for before, after in pairwise(ids))
