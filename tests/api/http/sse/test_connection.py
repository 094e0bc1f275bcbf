"""Frames that are pushed past the server leave whole, in order, and only where the server sends chunks."""

from typing import Any

import gevent
import pytest

from api.http.sse.connection import PUSHED, Connection

FRAME = b"id: 1-1\ndata: {}\n\n"
CHUNK = b"%x\r\n%b\r\n" % (len(FRAME), FRAME)


class Sock:
    """A socket that takes `room` bytes at once and the rest when somebody waits for it."""

    def __init__(self, room: int = 10_000, fault: OSError | None = None) -> None:
        self.room, self.fault = room, fault
        self.sent = b""

    def send(self, data: bytes, flags: int = 0, timeout: float | None = None) -> int:
        assert timeout == 0.0, "a push waits for nothing"
        if self.room == 0:
            raise BlockingIOError
        taken, self.room = data[: self.room], max(0, self.room - len(data))
        self.sent += taken
        return len(taken)

    def sendall(self, data: bytes) -> None:
        gevent.sleep(0)
        if self.fault is not None:
            raise self.fault
        self.sent += data


def connection(sock: Sock | None, **members: str) -> Connection:
    environ: dict[str, Any] = {
        "SERVER_PROTOCOL": "HTTP/1.1",
        "REQUEST_METHOD": "GET",
        "wsgi.url_scheme": "http",
        **members,
    }
    if sock is not None:
        environ["gunicorn.socket"] = sock
    return Connection(environ)


def test_a_frame_leaves_as_a_chunk() -> None:
    sock = Sock()
    client = connection(sock)

    assert client.pushes
    assert client.push(FRAME) and client.push(FRAME)
    client.await_pushed()
    assert sock.sent == 2 * CHUNK


@pytest.mark.parametrize(
    "members",
    [
        {"SERVER_PROTOCOL": "HTTP/1.0"},
        {"REQUEST_METHOD": "HEAD"},
        {"wsgi.url_scheme": "https"},
    ],
)
def test_nothing_is_pushed_where_the_server_sends_no_chunks(members: dict[str, str]) -> None:
    assert not connection(Sock(), **members).pushes


def test_nothing_is_pushed_without_a_socket() -> None:
    client = connection(None)
    assert not client.pushes and not client.push(FRAME)


@pytest.mark.parametrize("frame", [FRAME, b"x" * (PUSHED + 1)], ids=["full", "large"])
def test_what_cannot_leave_at_once_is_left_to_the_server(frame: bytes) -> None:
    sock = Sock(room=0 if frame is FRAME else 10_000)

    assert not connection(sock).push(frame)
    assert sock.sent == b""


def test_the_rest_of_a_frame_leaves_before_anything_else() -> None:
    sock = Sock(room=5)
    client = connection(sock)

    assert client.push(FRAME), "it has been taken"
    assert not client.push(FRAME), "the next would get ahead of the rest"
    client.await_pushed()
    assert sock.sent == CHUNK
    sock.room = 1000
    assert client.push(FRAME) and sock.sent == 2 * CHUNK


def test_a_rest_that_cannot_be_sent_ends_the_stream() -> None:
    client = connection(Sock(room=5, fault=ConnectionResetError("gone")))
    assert client.push(FRAME)

    with pytest.raises(ConnectionResetError):
        client.await_pushed()
