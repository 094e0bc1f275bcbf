"""What stands between a client and the server: it counts the POSTs that go there, and may lose answers."""

import re
import socket
import socketserver
import threading
from collections import Counter

REQUEST = re.compile(rb"POST (/v1/\S+) HTTP/1\.1\r\n")
FIRST_TRY = b"x-stainless-retry-count: 0\r\n"
LONGEST = 512
"""Bytes of a request line; so much of what came is looked at again with what comes next."""
CHUNK = 65536


class CountingProxy(socketserver.ThreadingTCPServer):
    """Forwards 127.0.0.1:`port` to a target port; use in a `with`. `posts`: how many came, by path.

    It reads what goes by, so a POST is one whatever its client makes of the answer. `loses`: the answer to
    each first try of OpenAI's clients is lost, and its connection cut, once the server has begun to give it.
    """

    daemon_threads = True

    def __init__(self, target: int) -> None:
        super().__init__(("127.0.0.1", 0), _Connection)
        self.target = target
        self.loses = False
        self.lost = 0
        self.posts = Counter[str]()
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        self.counting = threading.Lock()
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def __exit__(self, *exc: object) -> None:
        self.shutdown()
        super().__exit__(*exc)


class _Connection(socketserver.BaseRequestHandler):
    server: CountingProxy

    def setup(self) -> None:
        self._first_try = False

    def handle(self) -> None:
        with socket.create_connection(("127.0.0.1", self.server.target)) as there:
            back = threading.Thread(target=self._forward_answers, args=(there,), daemon=True)
            back.start()
            self._forward_requests(there)
            back.join()

    def _forward_requests(self, there: socket.socket) -> None:
        seen = b""
        while chunk := _received(self.request):
            seen += chunk
            with self.server.counting:
                self.server.posts.update(path.decode() for path in REQUEST.findall(seen))
            if REQUEST.search(seen):
                self._first_try = FIRST_TRY in seen.lower()
            # What was counted is not looked at again.
            seen = REQUEST.sub(b"", seen)[-LONGEST:]
            if not _sent(there, chunk):
                break
        _end(there)

    def _forward_answers(self, there: socket.socket) -> None:
        while chunk := _received(there):
            if self.server.loses and self._first_try:
                with self.server.counting:
                    self.server.lost += 1
                _cut(self.request)
                return
            if not _sent(self.request, chunk):
                break
        _end(self.request)


def _received(source: socket.socket) -> bytes:
    """The next bytes; none where the connection has ended, or has broken."""
    try:
        return source.recv(CHUNK)
    except OSError:
        return b""


def _sent(sink: socket.socket, data: bytes) -> bool:
    """Send bytes. False where nobody takes them any more."""
    try:
        sink.sendall(data)
    except OSError:
        return False
    return True


def _end(sink: socket.socket) -> None:
    """Say that no more comes. Who has gone already need not hear it."""
    try:
        sink.shutdown(socket.SHUT_WR)
    except OSError:
        return


def _cut(connection: socket.socket) -> None:
    """End both ways of a connection, which wakes who reads it."""
    try:
        connection.shutdown(socket.SHUT_RDWR)
    except OSError:
        return
