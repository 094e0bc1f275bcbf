"""The deadlines of a connection."""

from typing import Any

import gevent
import pytest
from gevent import socket

from api.server.connection import HEAD_SECONDS, STALLED_SECONDS, Connection

FIRST = 1000.0


class Clock:
    """Stands in for `time` in the worker's module."""

    def __init__(self) -> None:
        self.now = FIRST

    def monotonic(self) -> float:
        return self.now


class Sock:
    """A socket that has as much to give as is asked for, and takes `room` bytes at once."""

    def __init__(self, room: int = 1000) -> None:
        self.room = room
        self.sent = b""
        self.timeout: float | None = None
        self.waited: list[float | None] = []

    def sendall(self, data: bytes) -> None:
        self.waited.append(self.timeout)
        self.sent += data

    def send(self, data: bytes, flags: int, timeout: float) -> int:
        assert (flags, timeout) == (0, 0.0), "it never waits"
        if not self.room:
            raise BlockingIOError
        self.sent += data[: self.room]
        return min(len(data), self.room)

    def settimeout(self, seconds: float | None) -> None:
        self.timeout = seconds

    def gettimeout(self) -> float | None:
        return self.timeout

    def recv(self, size: int) -> bytes:
        return b"a" * size

    def fileno(self) -> int:
        return 7


def connected(monkeypatch: Any) -> tuple[Connection, Clock]:
    clock = Clock()
    monkeypatch.setattr("api.server.connection.time", clock)
    return Connection(Sock()), clock


def test_a_connection_may_idle_for_as_long_as_is_set_and_no_longer(monkeypatch: Any) -> None:
    connection, clock = connected(monkeypatch)
    with connection:
        assert connection.idle
        assert not connection.overdue(clock.now + 600, keepalive=600)
        assert connection.overdue(clock.now + 601, keepalive=600)


def test_a_head_that_has_begun_has_a_deadline_of_its_own(monkeypatch: Any) -> None:
    connection, clock = connected(monkeypatch)
    with connection:
        clock.now += 500
        connection.recv(1)
        clock.now += HEAD_SECONDS - 1
        connection.recv(1)

        assert not connection.idle
        assert not connection.overdue(clock.now, keepalive=600)
        assert connection.overdue(clock.now + 2, keepalive=600), "however it drips"


def test_while_a_request_is_answered_nothing_is_due(monkeypatch: Any) -> None:
    connection, clock = connected(monkeypatch)
    with connection:
        connection.recv(1)
    connection.recv(1)

    assert not connection.idle
    assert not connection.overdue(clock.now + 10_000, keepalive=5)
    with connection:
        assert connection.idle, "the next request has time of its own"
        assert not connection.overdue(clock.now + 5, keepalive=5)


def test_all_else_is_the_sockets(monkeypatch: Any) -> None:
    assert connected(monkeypatch)[0].fileno() == 7


@pytest.mark.parametrize("room", [0, 3])
def test_what_does_not_go_at_once_is_waited_for_so_long_and_no_longer(room: int) -> None:
    sock = Sock(room)
    connection = Connection(sock)
    connection.hold(b"head ")

    connection.sendall(b"body")

    assert sock.sent == b"head body"
    assert sock.waited == [STALLED_SECONDS] and sock.timeout is None


def test_what_goes_at_once_starts_no_timer() -> None:
    sock = Sock()
    Connection(sock).sendall(b"body")
    assert (sock.sent, sock.waited) == (b"body", [])


def test_a_body_has_its_time_however_it_drips(monkeypatch: Any) -> None:
    connection, clock = connected(monkeypatch)
    with connection:
        connection.recv(1)

    with pytest.raises(TimeoutError), connection.within(30):
        clock.now += 29
        connection.recv(1)
        assert not connection.overdue(clock.now, keepalive=5)
        assert connection.overdue(clock.now + 2, keepalive=5)

    assert not connection.overdue(clock.now + 10_000, keepalive=5), "it is over"


def test_a_body_in_time_is_not_late(monkeypatch: Any) -> None:
    connection, clock = connected(monkeypatch)
    with connection.within(30):
        connection.recv(1)
        assert not connection.overdue(clock.now + 1, keepalive=5)


def test_who_waits_for_a_request_finds_the_end_of_an_input_that_another_ends() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        connection = Connection(ours)
        reader = gevent.spawn(connection.recv, 10)
        gevent.sleep(0)

        connection.end_input()

        assert reader.get(timeout=10) == b""


def test_a_connection_that_breaks_says_so() -> None:
    class Broken(Sock):
        def recv(self, size: int) -> bytes:
            raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        Connection(Broken()).recv(10)
