"""What stands between a client and the server, and counts the POSTs that arrive there."""

import re
import socket
import socketserver
import threading
from collections import Counter

REQUEST = re.compile(rb"POST (/v1/\S+) HTTP/1\.1\r\n")
LONGEST = 512
"""Bytes of a request line; so much of what came is looked at again with what comes next."""
CHUNK = 65536


class CountingProxy(socketserver.ThreadingTCPServer):
    """Forwards 127.0.0.1:`port` to a target port; use in a `with`. `posts`: how many came, by path.

    It reads what goes by, so a POST is one whatever its client makes of the answer.
    """

    daemon_threads = True

    def __init__(self, target: int) -> None:
        super().__init__(("127.0.0.1", 0), _Connection)
        self.target = target
        self.posts = Counter[str]()
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        self._counting = threading.Lock()
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def __exit__(self, *exc: object) -> None:
        self.shutdown()
        super().__exit__(*exc)

    def count(self, lines: list[bytes]) -> None:
        with self._counting:
            self.posts.update(line.decode() for line in lines)


class _Connection(socketserver.BaseRequestHandler):
    server: CountingProxy

    def handle(self) -> None:
        there = socket.create_connection(("127.0.0.1", self.server.target))
        back = threading.Thread(target=_forward, args=(there, self.request), daemon=True)
        with there:
            back.start()
            self._forward_requests(there)
            back.join()

    def _forward_requests(self, there: socket.socket) -> None:
        seen = b""
        while chunk := _received(self.request):
            seen += chunk
            self.server.count(REQUEST.findall(seen))
            # What was counted is not looked at again.
            seen = REQUEST.sub(b"", seen)[-LONGEST:]
            there.sendall(chunk)
        _end(there)


def _forward(source: socket.socket, sink: socket.socket) -> None:
    while chunk := _received(source):
        try:
            sink.sendall(chunk)
        except OSError:
            break
    _end(sink)


def _received(source: socket.socket) -> bytes:
    """The next bytes; none where the connection has ended, or has broken."""
    try:
        return source.recv(CHUNK)
    except OSError:
        return b""


def _end(sink: socket.socket) -> None:
    """Say that no more comes. Who has gone already need not hear it."""
    try:
        sink.shutdown(socket.SHUT_WR)
    except OSError:
        return
