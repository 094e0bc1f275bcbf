"""The example receiver as a process, and the Python of docs/webhooks.md as it stands there."""

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from tests.conftest import eventually
from tests.ports import free_port
from tests.receivers import SECRET, receiver

ROOT = Path(__file__).parents[2]
MESSAGE = {
    "type": "job.completed",
    "data": {"id": "job_1", "status": "succeeded", "output": {"text": "grün"}},
}


def signed(body: str, name: str = "msg_1", secret: str = SECRET) -> dict[str, str]:
    now = int(time.time())
    return {
        "webhook-id": name,
        "webhook-timestamp": str(now),
        "webhook-signature": Webhook(secret).sign(name, datetime.fromtimestamp(now, UTC), body),
    }


@pytest.fixture
def port(tmp_path: Path) -> Iterator[int]:
    port = free_port()
    with (tmp_path / "out").open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "examples/webhook_receiver.py", "--port", str(port)],
            cwd=ROOT,
            env={**os.environ, "WEBHOOK_SECRET": SECRET},
            stdout=out,
        )
    yield port
    process.terminate()
    process.wait(10)


def answers(port: int, body: str, headers: dict[str, str]) -> int:
    try:
        url = f"http://127.0.0.1:{port}/"
        return httpx.post(url, content=body, headers=headers, trust_env=False).status_code
    except httpx.TransportError:
        return 0


def test_the_example_takes_signed_messages_once_and_no_others(port: int, tmp_path: Path) -> None:
    body = json.dumps(MESSAGE)
    eventually(lambda: answers(port, body, signed(body)) == 204, what="it listens")
    assert answers(port, body, signed(body)) == 204, "repeated"
    assert answers(port, body, signed(body, "msg_2")) == 204
    assert answers(port, body + " ", signed(body, "msg_3")) == 401
    assert answers(port, body, {}) == 401
    assert answers(port, body, {**signed(body), "webhook-signature": "v1"}) == 401
    line = "job.completed job_1 succeeded {'text': 'grün'}\n"
    assert (tmp_path / "out").read_text("utf-8") == line * 2


@pytest.fixture(scope="module")
def documented() -> dict[str, Any]:
    """What the Python blocks of the page define that receive and send by hand."""
    page = (ROOT / "docs" / "webhooks.md").read_text("utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    defined: dict[str, Any] = {}
    for block in blocks:
        if "openai" not in block:  # Which is no package of ours: tests/clients has it.
            exec(block, defined)
    assert {"receive", "request_inference"} <= set(defined)
    return defined


def test_the_documented_check_of_a_signature(documented: dict[str, Any]) -> None:
    body = json.dumps(MESSAGE)
    assert documented["receive"](SECRET, signed(body), body.encode()) == MESSAGE
    with pytest.raises(WebhookVerificationError):
        documented["receive"](SECRET, signed(body + " "), body.encode())


def test_the_documented_request_is_signed(documented: dict[str, Any]) -> None:
    job = {"model": "echo", "prompt": "grün"}

    def accept(handler: Any) -> None:
        handler.send_response(202)
        handler.send_header("Content-Length", "13")
        handler.end_headers()
        handler.wfile.write(b'{"id": "job"}')

    with receiver(accept) as there:
        server = f"http://127.0.0.1:{there.port}"
        answered = documented["request_inference"](server, SECRET, "msg_9", job)
        assert answered == {"id": "job"}
        [got] = there.got
    assert (got.path, got.id) == ("/webhooks/ingest", "msg_9")
    message = Webhook(SECRET).verify(got.body, got.headers)
    assert message == {"type": "inference.requested", "data": job}
