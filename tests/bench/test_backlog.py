"""What a waiting job takes of Redis, and that the backlog's bench measures what it says."""

import json
import sys
from pathlib import Path

import pytest

from bench import backlog
from shared.store.jobs import JobStore


def test_a_few_jobs_are_measured_and_written_down(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", f"_ --jobs 400 --rounds 2 --results {tmp_path}".split())
    assert backlog.main() == 0
    [document], [report] = tmp_path.glob("*.json"), tmp_path.glob("*.md")
    said = json.loads(document.read_text())
    assert [call["name"] for call in said["calls"]] == list(backlog.CALLS)
    # How much is for the bench to say: beside 400 jobs a buffer of Redis's own counts.
    assert said["bytes_a_job"] > 500 and said["bytes_a_greedy_job"] > 500
    assert f"| {said['bytes_a_job']:,.0f} | ≤ 1,500 |" in report.read_text()


@pytest.mark.parametrize("greedy", [False, True])
def test_a_waiting_job_is_a_packed_record_and_its_request(store: JobStore, greedy: bool) -> None:
    job = backlog._new("tenant-1", greedy=greedy)
    store.create(job, max_queued=1)
    kept = {bytes(name).decode() for name in store.redis.scan_iter(f"*{job.id}*")}
    assert kept == {store.keys("job", job.id), store.keys("request", job.id)}
    packed: object = store.redis.object("encoding", store.keys("job", job.id))
    assert packed in (b"listpack", b"ziplist"), "a value is longer than 64 bytes"
