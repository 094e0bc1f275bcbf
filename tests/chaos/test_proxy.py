"""The fault proxy does what its methods say, on real sockets."""

import socket
import threading
import time
from collections.abc import Iterator

import pytest

from tests.chaos.proxy import FaultProxy
from tests.conftest import eventually


class Echo:
    """A server that sends back what it gets, and remembers how its connections ended."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.heard = b""
        self.ends: list[str] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with connection:
            try:
                while data := connection.recv(65536):
                    self.heard += data
                    connection.sendall(data)
                self.ends.append("fin")
            except ConnectionResetError:
                self.ends.append("reset")
            except OSError:
                self.ends.append("error")


@pytest.fixture
def echo() -> Iterator[Echo]:
    server = Echo()
    yield server
    server.close()


@pytest.fixture
def proxy(echo: Echo) -> Iterator[FaultProxy]:
    with FaultProxy(echo.port) as proxy:
        yield proxy


def connect(proxy: FaultProxy, timeout: float = 5.0) -> socket.socket:
    return socket.create_connection(("127.0.0.1", proxy.port), timeout)


def silent(client: socket.socket, seconds: float = 0.3) -> bool:
    client.settimeout(seconds)
    try:
        client.recv(100)
    except TimeoutError:
        return True
    finally:
        client.settimeout(5)
    return False


def test_forwards_bytes_both_ways_and_the_end(proxy: FaultProxy, echo: Echo) -> None:
    with connect(proxy) as client:
        client.sendall(b"x" * 200_000)
        client.shutdown(socket.SHUT_WR)
        got = b"".join(iter(lambda: client.recv(65536), b""))
    assert got == b"x" * 200_000 and echo.ends == ["fin"]
    eventually(lambda: proxy.connections == 0)


def test_delays(proxy: FaultProxy) -> None:
    with connect(proxy) as client:
        proxy.delay(0.2)
        began = time.monotonic()
        client.sendall(b"slow")
        assert client.recv(10) == b"slow"
        assert time.monotonic() - began >= 0.4


def test_a_black_hole_accepts_and_delivers_late(proxy: FaultProxy, echo: Echo) -> None:
    with connect(proxy) as old:
        proxy.hold()
        old.sendall(b"old")
        with connect(proxy) as new:
            new.sendall(b"new")
            assert silent(old) and silent(new) and echo.heard == b""
            proxy.heal()
            assert old.recv(10) == b"old" and new.recv(10) == b"new"


def test_half_open_stops_one_way_alone(proxy: FaultProxy, echo: Echo) -> None:
    with connect(proxy) as client:
        proxy.hold("down")
        client.sendall(b"heard")
        eventually(lambda: echo.heard == b"heard")
        assert silent(client)
        proxy.heal()
        assert client.recv(10) == b"heard"
        proxy.hold("up")
        client.sendall(b" not")
        assert silent(client) and echo.heard == b"heard"


def test_a_client_that_gives_up_in_a_black_hole_is_not_noticed_before_it_heals(
    proxy: FaultProxy, echo: Echo
) -> None:
    client = connect(proxy)
    client.sendall(b"a")
    assert client.recv(1) == b"a"
    proxy.hold()
    client.close()
    time.sleep(0.2)
    assert echo.ends == []
    proxy.heal()
    eventually(lambda: echo.ends)


def test_swallowed_connections_are_reset_when_healed(proxy: FaultProxy, echo: Echo) -> None:
    with connect(proxy) as idle, connect(proxy) as client:
        idle.sendall(b"i")
        assert idle.recv(1) == b"i"
        proxy.drop()
        client.sendall(b"lost")
        assert silent(client)
        proxy.heal()
        with pytest.raises(ConnectionResetError):
            client.recv(10)
        idle.sendall(b"j")
        assert idle.recv(1) == b"j" and echo.heard == b"ij"


def test_reset_sends_rst_to_both_ends(proxy: FaultProxy, echo: Echo) -> None:
    with connect(proxy) as client:
        client.sendall(b"a")
        assert client.recv(1) == b"a"
        assert proxy.reset() == 1
        with pytest.raises(ConnectionResetError):
            client.recv(1)
    eventually(lambda: echo.ends == ["reset"])


def test_a_server_that_is_away_closes_the_connection_and_may_come_back() -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
    with FaultProxy(port) as proxy:
        with connect(proxy) as client:
            assert client.recv(1) == b""
        server = socket.create_server(("127.0.0.1", port))
        with server, connect(proxy) as client:
            connection, _ = server.accept()
            with connection:
                client.sendall(b"back")
                assert connection.recv(10) == b"back"
