"""A tiny HTTP server that echoes prompts, rightly or wrongly, and knows what it has answered.

`python -m tests.bench.echo_server PORT` runs one that is always right.
"""

import json
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

Behaviour = Callable[[int, str], str]
"""From a prompt's number (1, 2, …) and the prompt to one of the names in `EchoServer`."""


class EchoServer(ThreadingHTTPServer):
    """POST answers {"id": …, "output": {"text": …}}, or {"id": …} whose GET answers at the third look; to a
    list of one prompt, `{"prompts": […]}`, a list of one text.

    A behaviour is right, other, nothing, garbage, refuse (500), cut or later. `said` counts behaviours
    and `requests` HTTP requests, those of the first knock apart.
    """

    daemon_threads = True
    block_on_close = False

    def __init__(self, port: int, behaviour: Behaviour) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.behaviour = behaviour
        self.said: Counter[str] = Counter()
        self.requests = 0
        self.looks: dict[str, int] = {}
        self.lock = threading.Lock()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that hangs up is part of the tests."""

    def choose(self, prompt: str) -> str:
        """What becomes of a prompt; a knock is always answered rightly."""
        with self.lock:
            if prompt.startswith("knock"):
                return "right"
            self.requests += 1
            behaviour = self.behaviour(self.said.total() + 1, prompt)
            self.said[behaviour] += 1
            return behaviour

    def look(self, prompt: str) -> bool:
        """Whether a job that was answered with its id is done by now."""
        with self.lock:
            self.requests += 1
            self.looks[prompt] = self.looks.get(prompt, 0) + 1
            return self.looks[prompt] >= 3


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1
    server: EchoServer

    def do_POST(self) -> None:
        document = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        batch = "prompts" in document
        [prompt] = document["prompts"] if batch else [document["prompt"]]
        match self.server.choose(prompt):
            case "right" if batch:
                self._answer([prompt])
            case "nothing" if batch:
                self._answer([])
            case "right":
                self._answer({"id": prompt.replace(" ", "_"), "output": {"text": prompt}})
            case "other":
                self._answer({"output": {"text": "somebody else's prompt"}})
            case "nothing":
                self._answer({"output": None})
            case "garbage":
                self._send(200, b"<html>")
            case "refuse":
                self._send(500, b"{}")
            case "later":
                self._answer({"id": prompt.replace(" ", "_")})
            case "cut":
                self.close_connection = True

    def do_GET(self) -> None:
        prompt = self.path.removeprefix("/result/").replace("_", " ")
        self._answer({"output": {"text": prompt} if self.server.look(prompt) else None})

    def log_message(self, *args: object) -> None:
        pass

    def _answer(self, document: object) -> None:
        self._send(200, json.dumps(document).encode())

    def _send(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@contextmanager
def serving(behaviour: Behaviour) -> Iterator[EchoServer]:
    """A server in a thread of this process."""
    with EchoServer(0, behaviour) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


if __name__ == "__main__":
    EchoServer(int(sys.argv[1]), lambda number, prompt: "right").serve_forever()
