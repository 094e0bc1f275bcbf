"""Which of several processes takes a connection."""

import os
import signal
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import psutil
import pytest

from api.server.balance import MOST, Board
from tests.api.conftest import AUTH, Server
from tests.conftest import RedisServer, eventually

CLIENTS = 60
GET = (
    f"GET /v1/models HTTP/1.1\r\nHost: x\r\nAuthorization: {AUTH['Authorization']}\r\n\r\n".encode()
)


def test_a_place_is_ahead_of_the_one_that_holds_the_fewest_connections() -> None:
    board = Board()
    first, second, third = (board.place() for _ in range(3))
    first.listen()
    second.listen()

    first.count(2)
    assert not first.ahead(), "two more are nothing"
    first.count(1)
    assert first.ahead() and not second.ahead()
    second.count(1)
    assert not first.ahead()
    third.listen()
    assert first.ahead(), "one that has just begun to listen holds the fewest"
    third.leave()
    assert not first.ahead(), "one that has left holds nothing"
    third.count(-1)
    assert not first.ahead(), "nor does it when its last connections end"


def test_among_many_connections_an_eighth_more_is_allowed() -> None:
    board = Board()
    one, other = board.place(), board.place()
    for place in (one, other):
        place.listen()
        place.count(800)

    one.count(102)
    assert not one.ahead()
    one.count(1)
    assert one.ahead()


def test_the_place_of_a_process_that_ended_is_free_for_the_next() -> None:
    board = Board()
    places = [board.place() for _ in range(MOST)]
    for place in places:
        place.listen()
    beyond = board.place()
    beyond.listen()
    beyond.count(1000)

    board.ended(beyond)
    board.ended(places[7])
    places[3].count(10)

    assert not beyond.ahead(), "it takes what comes"
    assert places[3].ahead()
    assert board.place().slot == 7


class Pair:
    """A gunicorn of two processes, and clients who keep their connections."""

    def __init__(self, server: Server, stack: ExitStack) -> None:
        self._server = server
        self._stack = stack

    def processes(self) -> list[psutil.Process]:
        assert self._server.process is not None
        return psutil.Process(self._server.process.pid).children()

    def connect(self, clients: int) -> None:
        """All of them, and only then does each ask for something."""
        address = ("127.0.0.1", self._server.port)
        sockets = [
            self._stack.enter_context(socket.create_connection(address, 20)) for _ in range(clients)
        ]
        for sock in sockets:
            sock.sendall(GET)
        for sock in sockets:
            assert sock.recv(65536).startswith(b"HTTP/1.1 200")

    def held(self, process: psutil.Process) -> int:
        """How many connections a process has."""
        return sum(
            each.status == psutil.CONN_ESTABLISHED and each.laddr.port == self._server.port
            for each in process.net_connections("tcp")
        )

    def serves(self, process: psutil.Process) -> bool:
        """Whether it takes connections; tries one."""
        self.connect(1)
        return self.held(process) > 0


@pytest.fixture
def pair(catalogue: Path, redis_server: RedisServer) -> Iterator[Pair]:
    server = Server(catalogue, redis_server.url, "test-balance", WEB_CONCURRENCY="2").start()
    try:
        with ExitStack() as stack:
            pair = Pair(server, stack)
            eventually(lambda: len(pair.processes()) == 2, 10, "both processes are there")
            for process in pair.processes():
                eventually(partial(pair.serves, process), 30, "both processes serve")
            yield pair
    finally:
        server.stop()


def test_a_burst_of_clients_is_shared(pair: Pair) -> None:
    pair.connect(CLIENTS)

    assert min(pair.held(process) for process in pair.processes()) >= CLIENTS // 4


def test_nobody_waits_for_a_process_that_hangs(pair: Pair) -> None:
    hung, other = sorted(pair.processes(), key=pair.held)
    before = pair.held(other)

    os.kill(hung.pid, signal.SIGSTOP)
    try:
        pair.connect(CLIENTS)
        assert pair.held(other) == before + CLIENTS
    finally:
        os.kill(hung.pid, signal.SIGCONT)

    # It has the fewest by far, so it gets what comes next until it has caught up. By chance alone the two
    # would stay about as far apart as they are.
    for _ in range(300):
        pair.connect(1)
        if pair.held(hung) >= pair.held(other) * 3 // 4:
            break
    else:
        pytest.fail(f"it has {pair.held(hung)}, and the other {pair.held(other)}")


def test_a_process_that_takes_the_place_of_another_gets_its_share(pair: Pair) -> None:
    dead, other = pair.processes()
    dead.kill()

    eventually(lambda: len(set(pair.processes()) - {dead, other}) == 1, 30, "another one is there")
    (fresh,) = set(pair.processes()) - {dead, other}
    eventually(lambda: pair.serves(fresh), 30, "it serves")
    pair.connect(CLIENTS)
    assert pair.held(fresh) >= CLIENTS // 4
