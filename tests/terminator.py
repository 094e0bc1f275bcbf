"""TLS in front of a server that speaks none, as a proxy or an impostor would."""

import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.conftest import RedisServer


def make_certificates(folder: Path) -> Path:
    """Self-signed ones, `NAME.pem` with `NAME.key`: `known` for this machine, `other-host` for another."""
    for name, host in (("known", "DNS:localhost,IP:127.0.0.1"), ("other-host", "DNS:elsewhere")):
        subprocess.run(
            [
                "openssl",
                "req",
                "-x509",
                "-newkey",
                "ec",
                "-pkeyopt",
                "ec_paramgen_curve:prime256v1",
                "-nodes",
                "-days",
                "2",
                "-subj",
                "/CN=test",
                "-addext",
                f"subjectAltName={host}",
                "-keyout",
                f"{folder}/{name}.key",
                "-out",
                f"{folder}/{name}.pem",
            ],
            check=True,
            capture_output=True,
        )
    return folder


class Terminator:
    """TLS in front of a server that speaks none. `heard` is what clients sent once they were in."""

    def __init__(self, port: int, certificates: Path, name: str, *, clients: bool = False) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificates / f"{name}.pem", certificates / f"{name}.key")
        if clients:
            context.verify_mode = ssl.CERT_REQUIRED
            context.load_verify_locations(certificates / "known.pem")
        self._context, self._target = context, port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.heard = b""
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                plain, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(plain,), daemon=True).start()

    def _serve(self, plain: socket.socket) -> None:
        try:
            with (
                self._context.wrap_socket(plain, server_side=True) as client,
                socket.create_connection(("127.0.0.1", self._target)) as redis,
            ):
                back = threading.Thread(target=self._pump, args=(redis, client), daemon=True)
                back.start()
                while data := client.recv(65536):
                    self.heard += data
                    redis.sendall(data)
        except OSError:
            pass

    @staticmethod
    def _pump(source: socket.socket, sink: socket.socket) -> None:
        try:
            while data := source.recv(65536):
                sink.sendall(data)
        except OSError:
            pass

    def close(self) -> None:
        self._listener.close()


@contextmanager
def encrypted(
    redis: RedisServer, certificates: Path, name: str = "known", *, clients: bool = False
) -> Iterator[Terminator]:
    terminator = Terminator(redis.port, certificates, name, clients=clients)
    try:
        yield terminator
    finally:
        terminator.close()
