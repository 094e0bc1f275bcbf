import json
import random
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from flask.testing import FlaskClient

from api.http.sse import event_stream, form
from api.services import of
from shared.domain.errors import StoreUnavailable
from shared.domain.schemas import Job
from shared.domain.states import JobState
from shared.store.events import EventHub
from shared.store.jobs import JobStore
from tests.api.conftest import PlayedWorker, Server
from tests.api.sse import Frame, Reader, refusal, text_of
from tests.conftest import eventually

ECHO = {"model": "echo", "prompt": "hello"}
UNKNOWN = "job_" + "0" * 32
Meanwhile = Callable[[Callable[[], object]], None]


def make(server: Server) -> str:
    job_id: str = server.request("POST", "/v1/jobs", ECHO).json["id"]
    return job_id


def test_a_finished_job_is_replayed(server: Server, served: PlayedWorker) -> None:
    job_id = make(server)
    served.serve("hel", "lo\n", "wörld")

    with Reader(server, "GET", f"/v1/jobs/{job_id}/events") as reader:
        assert reader.headers["Content-Type"] == "text/event-stream"
        assert reader.headers["Cache-Control"] == "no-store"
        assert reader.headers["X-Accel-Buffering"] == "no"
        assert reader.block() == "retry: 1000"
        frames = reader.frames()

    assert [(frame.id, frame.kind) for frame in frames] == [
        ("0-1", "status"),
        ("1-0", "status"),
        ("1-1", "token"),
        ("1-2", "token"),
        ("1-3", "token"),
        ("1-4", "done"),
    ]
    assert text_of(frames) == "hello\nwörld"
    job = Job.model_validate(frames[-1].data)
    assert (job.id, job.status) == (job_id, "succeeded")
    assert job.output == {"text": "hello\nwörld", "finish_reason": "stop"}


def test_an_events_data_is_one_line_to_every_client(server: Server, served: PlayedWorker) -> None:
    """Also to those that split lines as Python does, at all that Unicode calls the end of one."""
    text = "a\u2028b\u2029c\u0085d\x0be\x0cf\x1cg\x1dh\x1ei\rj\nk\u00852"
    job_id = make(server)
    served.serve(text)

    with Reader(server, "GET", f"/v1/jobs/{job_id}/events") as reader:
        raw = reader.response.read().decode()

    found = [json.loads(line[5:]) for line in raw.splitlines() if line.startswith("data:")]
    assert [data["text"] for data in found if "text" in data] == [text]
    assert found[-1]["output"]["text"] == text


def test_events_arrive_as_they_are_said(server: Server, served: PlayedWorker) -> None:
    job_id = make(server)
    with Reader(server, "GET", f"/v1/jobs/{job_id}/events") as reader:
        assert reader.frame() == Frame("0-1", "status", {"status": "queued", "attempt": 0})
        claim = served.take()
        assert reader.frame() == Frame("1-0", "status", {"status": "running", "attempt": 1})
        for seq in (1, 2):
            served.say(claim, seq, "x")
            assert reader.frame() == Frame(f"1-{seq}", "token", {"text": "x", "index": seq - 1})
        served.end(claim, output={"text": "xx"})
        assert reader.until("done").data["output"] == {"text": "xx"}
        assert reader.frame() is None


def test_a_job_that_somebody_waits_for_can_be_followed_by_others(
    server: Server, served: PlayedWorker, meanwhile: Meanwhile
) -> None:
    answers: list[Any] = []
    meanwhile(lambda: answers.append(server.request("POST", "/v1/infer", ECHO)))
    claim = served.take()
    with Reader(server, "GET", f"/v1/jobs/{claim.id}/events") as reader:
        assert [reader.frame().id for _ in range(2)] == ["0-1", "1-0"]
        served.say(claim, 1, "x")
        assert reader.frame() == Frame("1-1", "token", {"text": "x", "index": 0})
        served.end(claim, output={"text": "x"})
        assert reader.until("done").data["output"] == {"text": "x"}
    eventually(lambda: answers, what="the answer to who waits")
    assert answers[0].json["output"] == {"text": "x"}


def test_the_events_of_a_job_that_was_waited_for_are_told_behind_its_end(
    server: Server, served: PlayedWorker, meanwhile: Meanwhile
) -> None:
    meanwhile(lambda: served.end(served.take(), output={"text": ""}))
    job_id = server.request("POST", "/v1/infer", ECHO).json["id"]
    with Reader(server, "GET", f"/v1/jobs/{job_id}/events") as reader:
        frames = reader.frames()
    assert [(one.id, one.kind) for one in frames] == [
        ("0-1", "status"),
        ("1-0", "status"),
        ("1-1", "done"),
    ]
    assert frames[-1].data["id"] == job_id


def test_many_readers_of_one_job_all_get_everything(
    server: Server, served: PlayedWorker, meanwhile: Meanwhile
) -> None:
    job_id = make(server)
    texts: list[str] = []

    def read() -> None:
        with Reader(server, "GET", f"/v1/jobs/{job_id}/events") as reader:
            texts.append(text_of(reader.frames()))

    for _ in range(20):
        meanwhile(read)
    served.serve(*"abcdefgh")

    eventually(lambda: len(texts) == 20, what="all readers have read to the end")
    assert set(texts) == {"abcdefgh"}


def test_a_reader_cut_at_random_misses_and_repeats_nothing(
    server: Server, served: PlayedWorker, meanwhile: Meanwhile
) -> None:
    job_id = make(server)
    pieces = [f"piece {number} ü\n" for number in range(600)]
    meanwhile(lambda: served.serve(*pieces))
    dice = random.Random(7)
    frames: list[Frame] = []
    cuts = 0

    while not frames or frames[-1].kind != "done":
        headers = {"Last-Event-ID": frames[-1].id} if frames else {}
        with Reader(server, "GET", f"/v1/jobs/{job_id}/events", headers=headers) as reader:
            for _ in range(dice.randint(1, 150) if cuts < 8 else 1000):
                frame = reader.frame()
                if frame is None:
                    break
                frames.append(frame)
        cuts += 1

    assert cuts > 5
    assert text_of(frames) == "".join(pieces)
    assert len({frame.id for frame in frames}) == len(frames)


def test_the_cursor_is_taken_from_header_then_query(server: Server, served: PlayedWorker) -> None:
    job_id = make(server)
    served.serve("a", "b")

    def rest(query: str, headers: dict[str, str]) -> list[str]:
        path = f"/v1/jobs/{job_id}/events{query}"
        with Reader(server, "GET", path, headers=headers) as reader:
            return [frame.id for frame in reader.frames()]

    assert rest("?after=1-1", {}) == ["1-2", "1-3"]
    assert rest("?after=0-1", {"Last-Event-ID": "1-2"}) == ["1-3"]
    assert rest("", {"Last-Event-ID": ""})[0] == "0-1"


def test_after_the_terminal_event_comes_204(server: Server, served: PlayedWorker) -> None:
    job_id = make(server)
    served.serve("a")

    reply = refusal(server, f"/v1/jobs/{job_id}/events?after=1-2")

    assert (reply.status, reply.body) == (204, b"")


@pytest.mark.parametrize("cursor", ["1-99", "7-0", "x", "1", "-1", "1-2-3", "1-" + "9" * 30, "²-1"])
def test_a_bad_cursor_is_422(client: FlaskClient, worker: PlayedWorker, cursor: str) -> None:
    job_id = client.post("/v1/jobs", json=ECHO).json["id"]

    response = client.get(f"/v1/jobs/{job_id}/events", query_string={"after": cursor})

    assert (response.status_code, response.json["code"]) == (422, "invalid_cursor")


def test_expired_events_are_410(client: FlaskClient, worker: PlayedWorker, store: JobStore) -> None:
    job_id = client.post("/v1/jobs", json=ECHO).json["id"]
    worker.serve("a")
    store.redis.delete(store.keys("log", job_id))

    response = client.get(f"/v1/jobs/{job_id}/events")

    assert (response.status_code, response.json["code"]) == (410, "events_expired")


def test_a_ticket_opens_its_jobs_events_and_nothing_else(
    server: Server, served: PlayedWorker
) -> None:
    job = server.request("POST", "/v1/jobs", ECHO).json
    served.serve("a")
    host = f"http://127.0.0.1:{server.port}"
    assert job["urls"]["events"].startswith(f"{host}/v1/jobs/{job['id']}/events?ticket=")
    path = job["urls"]["events"].removeprefix(host)
    connection = server.connect()

    def status(path: str) -> int:
        connection.request("GET", path)
        response = connection.getresponse()
        response.read()
        return response.status

    query = path.partition("?")[2]
    assert status(path) == 200
    assert status(f"/v1/jobs/{make(server)}/events?{query}") == 401
    assert status(f"/v1/jobs/{job['id']}?{query}") == 401
    assert status(f"{path}x") == 401
    connection.close()


def test_a_heartbeat_is_sent_when_nothing_happens(
    app_stream: Iterator[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(event_stream, "HEARTBEAT_SECONDS", 0.1)

    assert next(app_stream) == b"retry: 1000\n\n"
    assert next(app_stream).startswith(b"id: 0-1\n")
    assert next(app_stream) == b": heartbeat\n\n"
    assert next(app_stream) == b": heartbeat\n\n"


def test_a_stream_whose_job_vanished_ends(
    app_stream: Iterator[bytes], store: JobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(event_stream, "HEARTBEAT_SECONDS", 0.1)
    next(app_stream), next(app_stream)

    for key in store.redis.scan_iter(store.keys("job", "*")):
        store.redis.delete(key)

    assert list(app_stream) in ([], [form.HEARTBEAT])


def test_an_outage_before_the_last_event_is_ridden_out(
    app_stream: Iterator[bytes],
    client: FlaskClient,
    worker: PlayedWorker,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    store = of(client.application).store
    monkeypatch.setattr(event_stream, "OUTAGE_PAUSE", 0.01)
    next(app_stream), next(app_stream)
    worker.serve("a")
    real, calls = store.get, []

    def away_at_first(*args: Any) -> Any:
        calls.append(args)
        if len(calls) < 3:
            raise StoreUnavailable("away")
        return real(*args)

    monkeypatch.setattr(store, "get", away_at_first)

    rest = b"".join(app_stream)

    assert len(calls) == 3
    assert rest.count(b"event: done") == 1
    assert b'"status":"succeeded"' in rest


def test_a_long_outage_sends_the_reader_to_reconnect(
    app_stream: Iterator[bytes], client: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(event_stream, "OUTAGE_SECONDS", 0.1)
    monkeypatch.setattr(event_stream, "OUTAGE_PAUSE", 0.02)
    next(app_stream), next(app_stream)

    def away(self: Any, timeout: float) -> None:
        raise StoreUnavailable("away")

    monkeypatch.setattr("shared.store.events.Follower.next", away)

    assert list(app_stream) == []


@pytest.fixture
def app_stream(client: FlaskClient, monkeypatch: pytest.MonkeyPatch) -> Iterator[Iterator[bytes]]:
    """The events of a waiting job as the app yields them, chunk by chunk."""
    monkeypatch.setattr(event_stream, "POLL", 0.05)
    job_id = client.post("/v1/jobs", json=ECHO).json["id"]
    response = client.get(f"/v1/jobs/{job_id}/events", buffered=False)
    yield response.iter_encoded()
    response.close()


def test_closing_a_stream_unfollows(client: FlaskClient) -> None:
    hub: EventHub = of(client.application).hub
    job_id = client.post("/v1/jobs", json=ECHO).json["id"]
    started = client.get(f"/v1/jobs/{job_id}/events", buffered=False)
    next(started.iter_encoded())
    assert len(hub) == 1
    untouched = client.get(f"/v1/jobs/{job_id}/events", buffered=False)

    started.close()
    untouched.close()
    client.head(f"/v1/jobs/{job_id}/events")

    eventually(lambda: len(hub) == 0, what="nothing is followed any more")


# -- POST /v1/infer/stream


def test_infer_streams_on_its_own_connection(
    server: Server, served: PlayedWorker, meanwhile: Meanwhile
) -> None:
    meanwhile(lambda: served.serve("hel", "lo"))

    with Reader(server, "POST", "/v1/infer/stream", ECHO) as reader:
        frames = reader.frames()

    assert text_of(frames) == "hello"
    assert frames[-1].kind == "done"
    assert reader.headers["Location"].endswith(frames[-1].data["id"])


def state(served: PlayedWorker, job_id: str) -> JobState:
    return served.store.get(job_id).state


def begin(server: Server, **headers: str) -> tuple[Reader, str]:
    reader = Reader(server, "POST", "/v1/infer/stream", ECHO, headers)
    assert reader.frame() is not None
    return reader, reader.headers["Location"].rpartition("/")[2]


def test_a_reader_that_goes_away_takes_its_job_with_it(
    server: Server, served: PlayedWorker
) -> None:
    waiting, waiting_id = begin(server)
    waiting.hang_up()
    eventually(lambda: state(served, waiting_id) is JobState.CANCELED, what="canceled")

    running, running_id = begin(server)
    claim = served.take()
    running.until("status")
    running.hang_up()
    eventually(lambda: served.say(claim, 1, "") == 2, what="the worker hears of the cancel")
    assert state(served, running_id) is JobState.RUNNING


def test_a_reader_that_comes_back_keeps_its_job(server: Server, served: PlayedWorker) -> None:
    first, job_id = begin(server)
    claim = served.take()
    served.say(claim, 1, "a")
    last = first.until("token")
    first.hang_up()

    path = f"/v1/jobs/{job_id}/events"
    with Reader(server, "GET", path, headers={"Last-Event-ID": last.id}) as second:
        served.say(claim, 2, "b")
        assert second.frame() == Frame("1-2", "token", {"text": "b", "index": 1})
        # Longer than the first reader's hanging up can take to be noticed, plus the grace period.
        reached = threading.Event()
        threading.Timer(2.5, reached.set).start()
        reached.wait()
        assert served.say(claim, 3, "c") == 1, "no cancel is waiting"
        served.end(claim, output={"text": "abc"})
        assert second.until("done").data["status"] == "succeeded"


def test_the_last_of_several_readers_takes_the_job_with_it(
    server: Server, served: PlayedWorker
) -> None:
    first, job_id = begin(server)
    second = Reader(server, "GET", f"/v1/jobs/{job_id}/events")
    assert second.frame() is not None

    first.hang_up()
    second.hang_up()

    eventually(lambda: state(served, job_id) is JobState.CANCELED, what="canceled")


def test_a_job_of_post_jobs_runs_on_without_readers(server: Server, served: PlayedWorker) -> None:
    job_id = make(server)
    with Reader(server, "GET", f"/v1/jobs/{job_id}/events") as reader:
        reader.frame()

    _, canceled_id = begin(server)[0].hang_up(), begin(server)
    canceled_id[0].hang_up()
    eventually(lambda: state(served, canceled_id[1]) is JobState.CANCELED, what="the other one")
    assert state(served, job_id) is JobState.QUEUED


def test_a_repeated_stream_request_reads_on(server: Server, served: PlayedWorker) -> None:
    key = {"Idempotency-Key": "stream-once"}
    first, job_id = begin(server, **key)
    claim = served.take()
    served.say(claim, 1, "a")
    last = first.until("token")
    first.hang_up()
    served.say(claim, 2, "b")
    served.end(claim, output={"text": "ab"})

    headers = {**key, "Last-Event-ID": last.id}
    with Reader(server, "POST", "/v1/infer/stream", ECHO, headers) as again:
        assert again.headers["Idempotent-Replayed"] == "true"
        assert again.headers["Location"].endswith(job_id)
        assert [frame.id for frame in again.frames()] == ["1-2", "1-3"]
    headers["Last-Event-ID"] = "1-3"
    assert server.request("POST", "/v1/infer/stream", ECHO, headers).status == 204


def test_readers_of_one_job_may_sit_at_two_servers(
    server: Server, served: PlayedWorker, catalogue: Any, redis_url: str, server_prefix: str
) -> None:
    other = Server(catalogue, redis_url, server_prefix).start()
    try:
        first, job_id = begin(server)
        second = Reader(other, "GET", f"/v1/jobs/{job_id}/events")
        assert second.frame() is not None
        first.hang_up()
        claim = served.take()
        served.say(claim, 1, "a")
        assert second.until("token").data["text"] == "a"
        second.hang_up()
        eventually(lambda: served.store.get(job_id).fields.get("cancel_requested") == "1")
    finally:
        other.stop()
