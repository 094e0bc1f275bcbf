"""A server of this checkout or of another one, as `truthgpt up` starts it."""

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx

from shared.embedded_redis import free_port

TOKEN = "bench-hostile-token-of-32-characters"
READY_SECONDS = 180.0
STOP_SECONDS = 40.0


class Server:
    """Answers at `url`; `http` is a client of the operator's."""

    def __init__(self, checkout: Path, folder: Path, url: str) -> None:
        self.checkout = checkout
        self.folder = folder
        self.url = url
        self.headers = {"Authorization": f"Bearer {TOKEN}"}
        self.http = httpx.Client(base_url=url, headers=self.headers, timeout=120, trust_env=False)

    def ready(self) -> bool:
        """Whether it serves, all of its models loaded."""
        with suppress(httpx.TransportError):
            if self.http.get("/ready").status_code == 200:
                models = self.http.get("/v1/models").json()["data"]
                return all(model["state"] in ("ready", "busy") for model in models)
        return False


@contextmanager
def served(
    checkout: Path, catalogue: str, env: Mapping[str, str] | None = None
) -> Iterator[Server]:
    """A fresh server with its own state. Raises `RuntimeError` where it does not come up."""
    with tempfile.TemporaryDirectory(prefix="hostile-") as name:
        folder, port = Path(name), free_port()
        (folder / "catalog.yaml").write_text(catalogue, "utf-8")
        surroundings = {k: v for k, v in os.environ.items() if k != "REDIS_URL"}
        surroundings |= {
            "PYTHONPATH": str(checkout),
            "TRUTHGPT_API_TOKEN": TOKEN,
            "ENABLE_TRACING": "false",
            "RATE_LIMIT_RPM": "0",
            **(env or {}),
        }
        command = [sys.executable, "-m", "cli", "up", "--no-flower", "--port", str(port)]
        command += ["--state-dir", str(folder / "state"), "--config", str(folder / "catalog.yaml")]
        log = folder / "server.log"
        with log.open("ab") as output:
            process = subprocess.Popen(
                command, cwd=checkout, env=surroundings, stdout=output, stderr=subprocess.STDOUT
            )
        server = Server(checkout, folder, f"http://127.0.0.1:{port}")
        try:
            _await_ready(server, process, log)
            yield server
        finally:
            server.http.close()
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _await_ready(server: Server, process: "subprocess.Popen[bytes]", log: Path) -> None:
    deadline = time.monotonic() + READY_SECONDS
    while not server.ready():
        if process.poll() is not None or time.monotonic() > deadline:
            tail = "\n".join(log.read_text("utf-8", "replace").splitlines()[-20:])
            raise RuntimeError(f"the server of {server.checkout} does not serve:\n{tail}")
        time.sleep(0.2)
