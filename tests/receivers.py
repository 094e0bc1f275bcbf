"""Receivers of webhooks, real and badly behaved, and a name server that changes its mind."""

import base64
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

SECRET = "whsec_" + base64.b64encode(b"a secret that is for tests only.").decode()


@dataclass(frozen=True)
class Got:
    """A request as it came. Header names are in lower case."""

    path: str
    headers: dict[str, str]
    body: bytes
    at: float = field(default_factory=time.monotonic)

    @property
    def id(self) -> str:
        return self.headers["webhook-id"]


Reply = Callable[[BaseHTTPRequestHandler], None]


def status(number: int, **headers: str) -> Reply:
    def reply(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(number)
        for name, value in {"Content-Length": "0", **headers}.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.end_headers()

    return reply


def flood(handler: BaseHTTPRequestHandler) -> None:
    """200, and then a body without an end."""
    handler.send_response(200)
    handler.end_headers()
    while True:
        handler.wfile.write(b"x" * 65536)


def drip(handler: BaseHTTPRequestHandler) -> None:
    """Headers, a byte at a time, for ever."""
    for byte in b"HTTP/1.1 200 OK\r\nX-Slow: " + b"x" * 10_000:
        handler.wfile.write(bytes([byte]))
        handler.wfile.flush()
        time.sleep(0.02)


def hang_up(handler: BaseHTTPRequestHandler) -> None:
    handler.connection.shutdown(socket.SHUT_RDWR)


def nonsense(handler: BaseHTTPRequestHandler) -> None:
    handler.wfile.write(b"SSH-2.0-OpenSSH\r\n\r\n")


class Receiver:
    """Answers each POST with the next reply, the last one for ever; hangs while `hanging` is set."""

    def __init__(self, *replies: Reply, tls: ssl.SSLContext | None = None) -> None:
        self.got: list[Got] = []
        self.hanging = threading.Event()
        self.released = threading.Event()
        self._replies = list(replies) or [status(204)]
        self._lock = threading.Lock()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                headers = {name.lower(): value for name, value in self.headers.items()}
                with outer._lock:
                    outer.got.append(Got(self.path, headers, body))
                    replies = outer._replies
                    reply = replies.pop(0) if len(replies) > 1 else replies[0]
                if outer.hanging.is_set():
                    outer.released.wait(60)
                reply(self)

            def do_GET(self) -> None:
                with outer._lock:
                    outer.got.append(Got("GET " + self.path, {}, b""))
                status(200)(self)

            def log_message(self, *_: Any) -> None:
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 128

            def handle_error(self, *_: Any) -> None:
                """A sender that hangs up is part of the test."""

        self._server = Server(("127.0.0.1", 0), Handler)
        self.port = self._server.server_port
        if tls is not None:
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hook"

    def answer(self, *replies: Reply) -> None:
        with self._lock:
            self._replies = list(replies)

    def stop(self) -> None:
        self.released.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@contextmanager
def receiver(*replies: Reply, tls: ssl.SSLContext | None = None) -> Iterator[Receiver]:
    made = Receiver(*replies, tls=tls)
    try:
        yield made
    finally:
        made.stop()


class NameServer:
    """A DNS server on UDP: answers A questions with the next address, the last one for ever, TTL 0."""

    def __init__(self, *addresses: str) -> None:
        self.asked: list[str] = []
        self._addresses = list(addresses)
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def resolve(self, host: str, port: int) -> Sequence[str]:
        """What `shared.webhooks.policy` takes for a resolver: asks this server over the wire."""
        question = b"".join(bytes([len(p)]) + p.encode() for p in host.split(".")) + b"\0"
        query = struct.pack(">6H", 7, 0x0100, 1, 0, 0, 0) + question + struct.pack(">2H", 1, 1)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
            asking.settimeout(5)
            asking.sendto(query, self._socket.getsockname())
            answer = asking.recv(512)
        return [socket.inet_ntoa(answer[-4:])]

    def stop(self) -> None:
        self._socket.close()

    def _serve(self) -> None:
        while True:
            try:
                query, client = self._socket.recvfrom(512)
            except OSError:
                return
            address = self._addresses.pop(0) if len(self._addresses) > 1 else self._addresses[0]
            labels, at = [], 12
            while length := query[at]:
                labels.append(query[at + 1 : at + 1 + length].decode())
                at += 1 + length
            self.asked.append(".".join(labels))
            head = query[:2] + struct.pack(">5H", 0x8180, 1, 1, 0, 0) + query[12 : at + 5]
            row = struct.pack(">3HIH", 0xC00C, 1, 1, 0, 4) + socket.inet_aton(address)
            self._socket.sendto(head + row, client)
