"""Fixtures of batches: files, batches over HTTP, and steps that a test takes one by one."""

import io
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from api.batches.steps import Steps
from api.services import of
from shared.domain.records import Claim
from shared.domain.states import JobState
from shared.settings import Settings
from tests.api.conftest import PlayedWorker

EMBEDDINGS = "/v1/embeddings"


@pytest.fixture
def settings(settings: Settings, tmp_path: Path) -> Settings:
    return settings.model_copy(update={"file_storage": str(tmp_path / "files")})


def a_line(number: int, text: str | None = None, **members: Any) -> dict[str, Any]:
    body = {"model": "encoder", "input": text or f"text {number}"}
    line = {"custom_id": f"line {number}", "method": "POST", "url": EMBEDDINGS, "body": body}
    return {**line, **members}


def jsonl(lines: Sequence[Any]) -> bytes:
    return b"".join(json.dumps(line).encode() + b"\n" for line in lines)


@dataclass
class Played:
    """A server with a worker for embeddings that a test plays, and the steps of its batches."""

    client: FlaskClient
    steps: Steps
    worker: PlayedWorker

    def upload(self, content: bytes, purpose: str = "batch") -> str:
        form = {"purpose": purpose, "file": (io.BytesIO(content), "input.jsonl")}
        made = self.client.post("/v1/files", data=form, content_type="multipart/form-data")
        file_id: str = made.get_json()["id"]
        return file_id

    def post(self, file_id: str, endpoint: str = EMBEDDINGS, **members: Any) -> Any:
        body = {"input_file_id": file_id, "endpoint": endpoint, "completion_window": "24h"}
        return self.client.post("/v1/batches", json={**body, **members})

    def create(self, content: bytes, endpoint: str = EMBEDDINGS, **members: Any) -> str:
        made = self.post(self.upload(content), endpoint, **members)
        assert made.status_code == 200, made.get_json()
        batch_id: str = made.get_json()["id"]
        return batch_id

    def get(self, batch_id: str) -> Any:
        return self.client.get(f"/v1/batches/{batch_id}").get_json()

    def content(self, file_id: str | None) -> list[Any]:
        """The lines of a file."""
        if file_id is None:
            return []
        data = self.client.get(f"/v1/files/{file_id}/content").data
        return [json.loads(line) for line in data.splitlines()]

    def work(self, most: int = 1000, end: Callable[[Claim], None] | None = None) -> int:
        """End waiting jobs, at most so many."""
        claims = self.worker.store.claim("encoder", most, "played").claims
        for claim in claims:
            (end or self.succeed)(claim)
        return len(claims)

    def succeed(self, claim: Claim) -> None:
        text = json.loads(claim.request)["content"]
        vector = [float(len(text)), 1.0]
        output = {"embeddings": [vector], "dimensions": 2}
        assert self.worker.end(claim, output=output, usage={"prompt_tokens": 2, "attempts": 1})

    def fail(self, claim: Claim) -> None:
        error = {"code": "engine_error", "message": "It went wrong.", "retryable": False}
        assert self.worker.end(claim, JobState.FAILED, error=error)

    def due(self, batch_id: str) -> None:
        """Let the next step be due now, and its part be worth storing, as if seconds had passed."""
        store = self.worker.store
        store.redis.zadd(store.keys("openbatches"), {batch_id: 0}, xx=True)
        store.redis.hset(store.keys("batch", batch_id), "part_at", 0)

    def step(self, batch_id: str) -> None:
        self.due(batch_id)
        assert self.steps.step()

    def close(self, batch_id: str) -> None:
        """Take the steps that are left of a batch that has ended."""
        store = self.worker.store
        while store.redis.zscore(store.keys("openbatches"), batch_id) is not None:
            self.step(batch_id)

    def until(
        self,
        batch_id: str,
        *statuses: str,
        work: bool = True,
        end: Callable[[Claim], None] | None = None,
    ) -> Any:
        """Take steps, and do the jobs between them, until the batch is in one of these states."""
        for _ in range(500):
            found = self.get(batch_id)
            if found["status"] in statuses:
                self.close(batch_id)
                return found
            self.step(batch_id)
            if work:
                self.work(end=end)
        raise AssertionError(f"it stays {found['status']}")


@pytest.fixture
def played(app: Flask, client: FlaskClient, worker: PlayedWorker) -> Played:
    return Played(client, Steps(of(app), most_live=20), worker)
