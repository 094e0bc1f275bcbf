"""What only a real server shows: junk on the wire, bodies that lie, a graceful end."""

import json
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from shared.domain.states import JobState
from tests.api.conftest import AUTH, PlayedWorker, Server
from tests.api.sse import Reader
from tests.conftest import PATIENCE, RedisServer, eventually

ECHO = {"model": "echo", "prompt": "hello"}
POST = b"POST /v1/jobs HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n" + (
    f"Authorization: {AUTH['Authorization']}\r\n".encode()
)


def raw(server: Server, data: bytes, *, finish: bool = False) -> tuple[int, dict[str, object]]:
    """Send bytes; the status and the document of the answer. `finish`: send nothing after them."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE) as sock:
        sock.sendall(data)
        if finish:
            sock.shutdown(socket.SHUT_WR)
        file = sock.makefile("rb")
        status = int(file.readline().split()[1])
        headers = {}
        while (line := file.readline().decode().strip()) != "":
            name, _, value = line.partition(": ")
            headers[name.lower()] = value
        assert headers["content-type"] == "application/problem+json"
        assert headers["x-request-id"]
        return status, json.loads(file.read(int(headers["content-length"])))


@pytest.mark.parametrize(
    "data",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
        b"hello\r\n\r\n",
        b"get / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nBad Header: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nX: a\x00b\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nX: a\r\n folded\r\n\r\n",
        b"GET /" + b"x" * 9000 + b" HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"x" * 70_000 + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 500 + b"\r\n",
        b"POST /v1/jobs HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
        b"POST /v1/jobs HTTP/1.1\r\nContent-Length: x\r\n\r\n",
        b"POST /v1/jobs HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"POST /v1/jobs HTTP/1.1\r\nTransfer-Encoding: odd\r\n\r\n",
        b"POST /v1/jobs HTTP/1.1\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n",
        POST + b"Transfer-Encoding: chunked\r\n\r\nnot hex\r\n\r\n",
        POST + b"Transfer-Encoding: chunked\r\n\r\n5\r\nabcdefgh\r\n0\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ],
)
def test_junk_on_the_wire_is_a_4xx_problem(server: Server, data: bytes) -> None:
    status, problem = raw(server, data)

    assert 400 <= status < 500
    assert problem["status"] == status
    assert problem["code"] in {"bad_request", "unauthorized"}


@pytest.mark.parametrize("path", ["//v1/jobs", "///v1/jobs", "//metrics", "//health"])
def test_a_path_has_one_spelling(server: Server, path: str) -> None:
    request = f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    assert raw(server, request.encode())[0] == 404


def test_a_body_that_breaks_off_makes_no_job(server: Server, served: PlayedWorker) -> None:
    body = json.dumps(ECHO).encode()

    short = raw(server, POST + b"Content-Length: 500\r\n\r\n" + body, finish=True)
    chunk = b"%x\r\n%b\r\n" % (len(body), body)
    chunked = raw(server, POST + b"Transfer-Encoding: chunked\r\n\r\n" + chunk, finish=True)

    assert (short[0], short[1]["code"]) == (400, "bad_request")
    assert (chunked[0], chunked[1]["code"]) == (400, "bad_request")
    assert server.request("GET", "/v1/jobs").json["data"] == []


def test_an_endless_body_is_413(server: Server) -> None:
    big = b"Content-Length: 10000000000\r\n\r\n{"
    chunk = b"10000\r\n" + b"x" * 65536 + b"\r\n"

    assert raw(server, POST + big)[0] == 413
    assert raw(server, POST + b"Transfer-Encoding: chunked\r\n\r\n" + chunk * 2)[0] == 413


def test_a_body_of_exactly_the_limit_is_taken(server: Server, served: PlayedWorker) -> None:
    def sized(size: int) -> bytes:
        body = b'{"model":"echo","prompt":"%b"}'
        return body % (b"x" * (size - len(body) + 2))

    def status(body: bytes, *, chunked: bool) -> int:
        connection = server.connect()
        headers = {**AUTH, "Content-Type": "application/json"}
        data = iter([body]) if chunked else body
        connection.request("POST", "/v1/jobs", data, headers, encode_chunked=chunked)
        found = connection.getresponse().status
        connection.close()
        return found

    limit = 64 * 1024
    for chunked in (False, True):
        assert status(sized(limit), chunked=chunked) == 202
        assert status(sized(limit + 1), chunked=chunked) == 413


def test_a_chunked_body_is_taken(server: Server, served: PlayedWorker) -> None:
    connection = server.connect()
    pieces = iter([b'{"model":"echo",', b'"prompt":"x"}'])
    headers = {**AUTH, "Content-Type": "application/json"}

    connection.request("POST", "/v1/jobs", pieces, headers, encode_chunked=True)

    assert connection.getresponse().status == 202
    connection.close()


@pytest.mark.parametrize(
    "headers",
    [
        {"X-Forwarded-Proto": "https", "X-Forwarded-Host": "evil.example"},
        {"X-Forwarded-Protocol": "ssl", "X-Forwarded-Ssl": "on"},
        {"X-Forwarded-For": "1.2.3.4", "Forwarded": "host=evil.example"},
        {"SCRIPT_NAME": "/evil", "PATH_INFO": "/evil"},
        {"X-Original-URL": "/evil", "X-HTTP-Method-Override": "DELETE"},
        {"Upgrade": "h2c", "Connection": "Upgrade, HTTP2-Settings", "HTTP2-Settings": "AAMAAABk"},
    ],
)
def test_headers_do_not_change_where_this_server_thinks_it_is(
    server: Server, served: PlayedWorker, headers: dict[str, str]
) -> None:
    reply = server.request("POST", "/v1/jobs", ECHO, headers)

    assert reply.status == 202
    assert reply.headers["Location"].startswith(f"http://127.0.0.1:{server.port}/v1/jobs/job_")


@pytest.mark.parametrize("host", ["", "a b", "<script>", "x" * 3000, "evil.example:99999"])
def test_an_odd_host_never_breaks_an_answer(
    server: Server, served: PlayedWorker, host: str
) -> None:
    reply = server.request("POST", "/v1/jobs", ECHO, {"Host": host})

    assert reply.status in (202, 400)
    if reply.status == 202:
        assert reply.json["urls"]["get"].startswith("http://")
        assert "<" not in reply.headers["Location"]


def test_the_app_is_not_imported_before_gevent_has_patched_the_standard_library() -> None:
    program = "import sys, api.server.worker; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )

    assert not {"flask", "redis", "shared.store.jobs", "api.http.fast_path"} & set(
        done.stdout.split()
    )


_OWN = re.compile(
    rb"job_[0-9a-z]+|req_[0-9a-f]+|\d{4}-\d\d-\d\dT[\d:.]+Z|ticket=[\w.-]+|Date: [^\r]+|"
    rb';t=\d+|r=\d+|"queue_position":\d+|Content-Length: \d+'
)
"""What differs between any two answers."""


class Kept:
    """A connection that stays, as long as the server keeps it."""

    def __init__(self, server: Server) -> None:
        self._sock = socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE)
        self._file = self._sock.makefile("rb")

    def __enter__(self) -> "Kept":
        return self

    def __exit__(self, *exc: object) -> None:
        self._file.close()
        self._sock.close()

    def send(self, data: bytes) -> None:
        self._sock.sendall(data)

    def answer(self) -> bytes:
        """The next one, whole; empty where the server has hung up."""
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            if not (line := self._file.readline()):
                assert head == b"", "cut off in a head"
                return b""
            head += line
        length = re.search(rb"Content-Length: (\d+)", head)
        assert length is not None
        body = self._file.read(int(length[1]))
        assert len(body) == int(length[1])
        return head + body


def posted(path: str, body: bytes, *headers: str) -> bytes:
    lines = [
        f"POST {path} HTTP/1.1",
        "Host: a.example:8080",
        f"Authorization: {AUTH['Authorization']}",
    ]
    lines += ["Content-Type: application/json", f"Content-Length: {len(body)}", *headers, "", ""]
    return "\r\n".join(lines).encode() + body


HELLO = json.dumps(ECHO).encode()


@pytest.mark.parametrize(
    ("path", "body", "headers"),
    [
        ("/v1/jobs", HELLO, []),
        ("/v1/jobs", HELLO, ["X-Request-ID: mine"]),
        ("/v1/jobs", HELLO, ["Prefer: wait=0"]),
        ("/v1/jobs", HELLO, ["Idempotency-Key: alike"]),
        ("/v1/jobs", HELLO, ["Authorization: Bearer wrong"]),
        ("/v1/jobs", HELLO, ["Host2: x", "Accept-Encoding: gzip"]),
        ("/v1/jobs", b'{"model":"nobody","prompt":"x"}', []),
        ("/v1/jobs", b'{"model":"echo","prompt":"x","priority":7}', []),
        ("/v1/jobs", b'{"model":"echo","model":"echo","prompt":"x"}', []),
        ("/v1/jobs", b"{", []),
        ("/v1/jobs", b"", []),
        ("/v1/infer?timeout=0", HELLO, []),
        ("/v1/infer?timeout=0.01", HELLO, []),
        ("/v1/infer?timeout=x", HELLO, []),
        ("/v1/infer?nothing=1", HELLO, []),
    ],
)
def test_a_request_is_answered_alike_the_first_time_and_every_other(
    server: Server, served: PlayedWorker, path: str, body: bytes, headers: list[str]
) -> None:
    request = posted(path, body, *headers, f"X-Once: {server.port} {path} {headers} {body!r}")
    with Kept(server) as first:
        # An Idempotency-Key makes all others a repeat of this one.
        first.send(posted(path, body, *headers))
        first.answer()

    answers = []
    with Kept(server) as connection:
        for _ in range(3):
            connection.send(request)
            answers.append(_OWN.sub(b"*", connection.answer()))

    assert answers[0].startswith(b"HTTP/1.1 ") and b"Connection: keep-alive\r\n" in answers[0]
    assert answers[1] == answers[0]
    assert answers[2] == answers[0]


def test_requests_that_come_together_are_answered_in_turn(
    server: Server, served: PlayedWorker
) -> None:
    get = f"GET /health HTTP/1.1\r\nHost: x\r\nAuthorization: {AUTH['Authorization']}\r\n\r\n".encode()
    requests = [posted("/v1/jobs", HELLO, f"X-Request-ID: r{n % 2}") for n in range(8)]

    with Kept(server) as connection:
        connection.send(b"".join(requests[:4]) + get + b"".join(requests[4:]) + get[:20])
        answers = [connection.answer() for _ in range(9)]
        connection.send(get[20:])
        answers.append(connection.answer())

    statuses = [answer[9:12] for answer in answers]
    assert statuses == [b"202"] * 4 + [b"200"] + [b"202"] * 4 + [b"200"]
    jobs = [answer for answer in answers if answer[9:12] == b"202"]
    assert [b"X-Request-ID: r1\r\n" in answer for answer in jobs] == [False, True] * 4
    assert len({json.loads(job.partition(b"\r\n\r\n")[2])["id"] for job in jobs}) == 8


@pytest.fixture(scope="module")
def patient(catalogue: Path, redis_server: RedisServer, server_prefix: str) -> Iterator[Server]:
    """A server that lets connections idle and drains for minutes; readers get no time to come back."""
    minutes = {"KEEPALIVE_SEC": "600", "WORKER_DRAIN_SEC": "600"}
    server = Server(
        catalogue, redis_server.url, server_prefix, STREAM_GRACE_SEC="0", **minutes
    ).start()
    yield server
    server.stop()


def test_connections_end_when_they_idle_too_long_or_a_head_takes_too_long(
    server: Server, patient: Server, served: PlayedWorker
) -> None:
    get = b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n"
    with (
        Kept(server) as idle,
        Kept(server) as used,
        Kept(patient) as waits,
        Kept(patient) as dripping,
    ):
        for connection in (idle, waits, dripping):
            connection.send(get)
            assert connection.answer().startswith(b"HTTP/1.1 200 ")
        for _ in range(3):
            used.send(posted("/v1/jobs", HELLO))
            assert used.answer().startswith(b"HTTP/1.1 202 ")
        used.send(b"POST /v1/jobs HT")
        dripping.send(get[:9])

        assert dripping.answer() == b"" and used.answer() == b"", "their heads took too long"
        assert idle.answer() == b"", "the server's KEEPALIVE_SEC are over"
        waits.send(get)
        assert waits.answer().startswith(b"HTTP/1.1 200 "), "longer than a head may take"


def test_a_graceful_end_gives_held_answers_ends_streams_whole_and_waits_for_nobody_else(
    patient: Server, served: PlayedWorker
) -> None:
    """The last test of this server, which it ends."""
    reader = Reader(patient, "POST", "/v1/infer/stream", ECHO)
    reader.frame()
    job_id = reader.headers["Location"].rpartition("/")[2]
    with Kept(patient) as used, Kept(patient) as first, Kept(patient) as idle:
        idle.send(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
        assert idle.answer().startswith(b"HTTP/1.1 200 ")
        for _ in range(2):
            used.send(posted("/v1/infer?timeout=0", HELLO))
            assert used.answer().startswith(b"HTTP/1.1 202 ")
        for connection in (used, first):
            connection.send(posted("/v1/infer", HELLO))
        eventually(lambda: served.store.status("echo").waiting == 5, what="all jobs wait")

        patient.terminate()

        for connection in (used, first):
            assert connection.answer().startswith(b"HTTP/1.1 202 ")
            assert connection.answer() == b"", "and no more is taken on it"
        assert reader.frames() == [], "the stream ends, chunked encoding complete"
        assert idle.answer() == b""
        assert patient.process is not None
        assert patient.process.wait(PATIENCE) == 0, "long before the drain time is over"
    assert served.store.status("echo").waiting == 5
    assert served.store.get(job_id).state is JobState.QUEUED, "its reader has not left"


TARGETS = [
    "/v1/%6Aobs",
    "/v1%2Fjobs",
    "/v1%2fjobs",
    "/v1/%2e%2e/v1/jobs",
    "/v1/jobs%00",
    "/%76%31/jobs",
    "/v1/jobs%3Flimit=1",
    "/v1/%256Aobs",
    "/v1/jobs%20",
    "/v1/jobs%",
    "/v1/jobs%zz",
    "http://a.example:8080/v1/jobs",
    "https://evil.example/v1/jobs",
    "//evil.example/v1/jobs",
    "/v1/jobs#x",
]


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("origin", [[], ["Origin: https://a.example"]], ids=["short", "flask"])
def test_a_target_of_another_spelling_is_refused_each_time(
    server: Server, served: PlayedWorker, target: str, origin: list[str]
) -> None:
    with Kept(server) as connection:
        for _ in range(3):
            connection.send(posted(target, HELLO, *origin))
            status = connection.answer()[9:12]
            assert status == (b"404" if target.startswith("//") else b"400")
    assert served.store.status("echo").waiting == 0


@pytest.mark.parametrize(
    ("version", "hosts", "status"),
    [
        ("1.1", [], b"400"),
        ("1.1", ["a", "a"], b"400"),
        ("1.1", ["a", "b"], b"400"),
        ("1.1", ["a,b"], b"400"),
        ("1.1", ["a@b"], b"400"),
        ("1.1", ["a/b"], b"400"),
        ("1.1", ["a b"], b"400"),
        ("1.1", ["a:x"], b"400"),
        ("1.1", ["my_host.example:8080"], b"202"),
        ("1.1", ["[::1]:8080"], b"202"),
        ("1.0", [], b"202"),
        ("1.0", ["a", "b"], b"400"),
    ],
)
def test_there_is_one_host(
    server: Server, served: PlayedWorker, version: str, hosts: list[str], status: bytes
) -> None:
    lines = [f"POST /v1/jobs HTTP/{version}", *(f"Host: {host}" for host in hosts)]
    lines += [f"Authorization: {AUTH['Authorization']}", "Content-Type: application/json"]
    lines += ["Connection: keep-alive", f"Content-Length: {len(HELLO)}", "", ""]

    for _ in range(3):
        with Kept(server) as connection:
            connection.send("\r\n".join(lines).encode() + HELLO)
            assert connection.answer()[9:12] == status
