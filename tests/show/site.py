"""Everything that is watched and everything that watches: real processes on this machine."""

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import httpx

from client import Client, ClientError
from tests.conftest import eventually
from tests.integration.prometheus import Prometheus
from tests.integration.stack import TOKEN, Stack
from tests.integration.traffic import SETTINGS, WORDS, a_bad_hour, catalogue
from tests.otlp import GrpcReceiver, Received
from tests.ports import free_port

CLIENTS = 4


class Site:
    """API, two models' workers, rescue worker, Redis, Flower, Prometheus and a trace receiver."""

    def __init__(self, folder: Path, exits: ExitStack) -> None:
        """Files go into `folder`; `exits` ends what was started, whatever became of the rest."""
        self._illness = folder
        receiver = GrpcReceiver()
        exits.callback(receiver.stop)
        self.spans: Received = receiver.received
        settings = {**SETTINGS, "OTLP_ENDPOINT": receiver.endpoint, "TRACE_MAX_PER_SECOND": "1000"}
        self.stack = Stack(folder / "stack", catalogue(folder), settings)
        exits.callback(self.stack.stop)
        self.stack.serve("echo", "ill")
        self.stack.start("batches", "batches")
        port = free_port()
        self.stack.start("flower", "flower", "--port", str(port))
        self.flower = httpx.Client(
            base_url=f"http://127.0.0.1:{port}", auth=("truthgpt", TOKEN), timeout=10
        )
        exits.callback(self.flower.close)
        self.prometheus = Prometheus(folder / "prometheus", self.stack.port)
        exits.callback(self.prometheus.stop)
        eventually(self._watched, what="Flower, Prometheus and the trace receiver are at work")

    def _watched(self) -> bool:
        with suppress(httpx.HTTPError), self.stack.client() as client:
            client.infer("echo", "anybody there?")
            return bool(
                self.flower.get("/healthcheck").is_success
                and self.prometheus.query("up == 1")
                and self.spans.all("attempt")
            )
        return False

    def live(self, seconds: float) -> int:
        """A bad hour in seconds, then load up to `seconds`. Returns how many jobs succeeded beside it."""
        with self.under_load() as done:
            over = threading.Event()
            timer = threading.Timer(seconds, over.set)
            timer.start()
            a_bad_hour(self.stack, self._illness)
            over.wait()
        return len(done)

    @contextmanager
    def under_load(self) -> Iterator[list[str]]:
        """`CLIENTS` clients with a job at a time each; the ids of jobs that have succeeded."""
        over, done = threading.Event(), list[str]()

        def loop() -> None:
            with self.stack.client() as client:
                while not over.is_set():
                    with suppress(ClientError):
                        done.append(client.infer("echo", WORDS, params={"step_ms": 5}).id)

        clients = [threading.Thread(target=loop) for _ in range(CLIENTS)]
        for thread in clients:
            thread.start()
        try:
            yield done
        finally:
            over.set()
            for thread in clients:
                thread.join()

    def client(self) -> Client:
        return self.stack.client()
