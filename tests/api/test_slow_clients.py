"""Hundreds of clients that send a byte now and then: others are served, and the slow ones are cut off."""

import select
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.api.conftest import AUTH, PlayedWorker, Server
from tests.conftest import PATIENCE, RedisServer, eventually

MANY = 100
HEAD = f"POST /v1/jobs HTTP/1.1\r\nHost: x\r\nAuthorization: {AUTH['Authorization']}\r\n".encode()
BODY_BEGINS = HEAD + b"Content-Type: application/json\r\nContent-Length: 5000\r\n\r\n{"


class Drips:
    """Connections that send `opening`, then one byte every half second for as long as they may."""

    def __init__(self, server: Server, opening: bytes, drip: bytes, count: int) -> None:
        address = ("127.0.0.1", server.port)
        self._open = [socket.create_connection(address, timeout=PATIENCE) for _ in range(count)]
        self._drip = drip
        self._stopped = threading.Event()
        self.answers: list[bytes] = []
        for sock in self._open:
            sock.sendall(opening)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    @property
    def alive(self) -> int:
        return len(self._open)

    def stop(self) -> None:
        self._stopped.set()
        self._thread.join()
        for sock in self._open:
            sock.close()

    def _run(self) -> None:
        while not self._stopped.wait(0.5):
            self._open = [sock for sock in self._open if self._still(sock)]

    def _still(self, sock: socket.socket) -> bool:
        try:
            if select.select([sock], [], [], 0)[0]:
                self.answers.append(sock.recv(4096))
                sock.close()
                return False
            sock.sendall(self._drip)
        except OSError:
            sock.close()
            return False
        return True


@pytest.fixture(scope="module")
def server(catalogue: Path, redis_server: RedisServer, server_prefix: str) -> Iterator[Server]:
    """A server that waits two seconds for a body."""
    server = Server(catalogue, redis_server.url, server_prefix, BODY_TIMEOUT_SEC="2").start()
    yield server
    server.stop()


def test_slow_clients_hold_nobody_up_and_are_cut_off(server: Server, served: PlayedWorker) -> None:
    heads = Drips(server, b"GET /v1/jobs HTTP/1.1\r\nHost: x\r\nX-Slow: ", b"a", MANY)
    bodies = Drips(server, BODY_BEGINS, b" ", MANY)
    try:
        answered = 0
        begun = time.monotonic()
        while heads.alive == MANY and time.monotonic() - begun < PATIENCE:
            made = server.request(
                "POST", "/v1/jobs", {"model": "echo", "prompt": "x"}, timeout=PATIENCE
            )
            assert made.status == 202
            answered += 1
            time.sleep(0.05)

        # The second has asked when the first was answered and every slow client was still there.
        assert answered >= 2, "others were served meanwhile"
        eventually(lambda: heads.alive == bodies.alive == 0, what="the slow ones are cut off")
    finally:
        heads.stop()
        bodies.stop()
    # What still drips in when a connection closes can cost its client the answer.
    assert all(answer.startswith(b"HTTP/1.1 408 ") for answer in bodies.answers if answer)
    assert not any(heads.answers), "nothing was asked, so nothing is answered"


def test_a_body_that_stops_is_told_so(server: Server) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE) as sock:
        sock.sendall(BODY_BEGINS)
        answer = sock.makefile("rb").read()

    assert answer.startswith(b"HTTP/1.1 408 ") and b'"code":"body_timeout"' in answer


def test_a_body_that_is_slow_but_in_time_is_taken(server: Server, served: PlayedWorker) -> None:
    body = b'{"model": "echo", "prompt": "x"}'
    head = HEAD + b"Content-Type: application/json\r\nConnection: close\r\n"
    with socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE) as sock:
        sock.sendall(head + b"Content-Length: %d\r\n\r\n" % len(body))
        for half in (body[:10], body[10:]):
            time.sleep(0.05)
            sock.sendall(half)
        assert sock.recv(4096).startswith(b"HTTP/1.1 202 ")
