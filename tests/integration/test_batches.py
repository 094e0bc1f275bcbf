"""A batch through kill -9 of every process that has a part in it: each line has one answer."""

import json
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.conftest import PATIENCE, eventually
from tests.integration.stack import TOKEN, Stack

MODEL = "all-minilm"
LINES = 100
ENDED = ("completed", "failed", "expired", "cancelled")


class Calls:
    """OpenAI's calls, tried again while the server is away."""

    def __init__(self, url: str) -> None:
        self._client = httpx.Client(
            base_url=url, headers={"Authorization": f"Bearer {TOKEN}"}, timeout=30
        )

    def __call__(self, method: str, path: str, **sent: Any) -> httpx.Response:
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                answer = self._client.request(method, path, **sent)
                if answer.status_code < 500 or time.monotonic() > deadline:
                    return answer
            except httpx.TransportError:
                if time.monotonic() > deadline:
                    raise
            time.sleep(0.1)

    def batch(self, lines: int) -> str:
        content = b"".join(
            json.dumps(
                {
                    "custom_id": f"line {number}",
                    "method": "POST",
                    "url": "/v1/embeddings",
                    "body": {"model": MODEL, "input": f"text {number} " + "of many words " * 20},
                }
            ).encode()
            + b"\n"
            for number in range(lines)
        )
        file = self("POST", "/v1/files", data={"purpose": "batch"}, files={"file": content}).json()
        asked = {"input_file_id": file["id"], "endpoint": "/v1/embeddings"}
        made = self("POST", "/v1/batches", json={**asked, "completion_window": "24h"}).json()
        batch_id: str = made["id"]
        return batch_id

    def get(self, batch_id: str) -> Any:
        return self("GET", f"/v1/batches/{batch_id}").json()

    def lines(self, file_id: str) -> list[Any]:
        text = self("GET", f"/v1/files/{file_id}/content").text
        return [json.loads(line) for line in text.splitlines()]


@pytest.mark.timeout(400)
def test_each_line_has_one_answer_whatever_is_killed(real: Stack) -> None:
    calls = Calls(real.url)
    batch_id = calls.batch(LINES)

    def answered(least: int) -> None:
        eventually(
            lambda: calls.get(batch_id)["request_counts"]["completed"] >= least, what="progress"
        )

    answered(1)
    real.kill("batches")
    real.start("batches", "batches")
    answered(20)
    real.kill(f"worker-{MODEL}-1")
    real.worker(MODEL)
    answered(40)
    real.redis.await_written()
    real.redis.stop()
    real.redis.start()
    answered(60)
    real.kill("api")
    real.kill("batches")
    real.start("api", "api")
    real.start("batches", "batches")
    eventually(lambda: calls.get(batch_id)["status"] in ENDED, seconds=200, what="the end")

    ended = calls.get(batch_id)
    assert ended["status"] == "completed"
    assert ended["request_counts"] == {"total": LINES, "completed": LINES, "failed": 0}
    lines = calls.lines(ended["output_file_id"])
    assert sorted(line["custom_id"] for line in lines) == sorted(
        f"line {number}" for number in range(LINES)
    )
    assert {line["response"]["status_code"] for line in lines} == {200}


def test_a_batch_lets_interactive_work_pass(real: Stack, tmp_path: Path) -> None:
    calls = Calls(real.url)
    batch_id = calls.batch(120)
    eventually(lambda: calls.get(batch_id)["status"] == "in_progress", what="it begins")

    alone = calls("POST", "/v1/embeddings", json={"model": MODEL, "input": "at once"})

    assert alone.status_code == 200
    assert calls.get(batch_id)["status"] not in ENDED
    assert calls("POST", f"/v1/batches/{batch_id}/cancel").json()["status"] == "cancelling"
    eventually(lambda: calls.get(batch_id)["status"] == "cancelled", what="it is cancelled")
