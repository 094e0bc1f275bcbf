"""`truthgpt usage`: read from the store, from whichever Redis the server uses."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from cli.main import main
from shared.domain.records import Finish, NewJob, new_job_id
from shared.domain.states import JobState
from shared.embedded_redis import running_url
from shared.store.jobs import JobStore


@pytest.fixture
def used(store: JobStore, redis_url: str, prefix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDIS_URL", redis_url)
    monkeypatch.setenv("TRUTHGPT_KEY_PREFIX", prefix)
    for tenant in ("acme", "bolt"):
        store.create(NewJob(new_job_id(), "m", tenant, b"{}"), max_queued=9)
        [claim] = store.claim("m", 1, "w").claims
        usage = b'{"prompt_tokens":12,"completion_tokens":34,"device_seconds":1.25}'
        store.write([Finish(claim.id, 1, JobState.SUCCEEDED, usage=usage)])


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["usage", *arguments], prog_name="truthgpt")


def test_a_table_and_json(used: None) -> None:
    table = run("--days", "2")
    assert table.exit_code == 0
    assert all(word in table.stdout for word in ("acme", "bolt", "12", "34", "1.2"))

    assert "acme has " in table.stdout and "bytes stored" in table.stdout

    told = json.loads(run("--days", "2", "--tenant", "bolt", "--json").stdout)
    assert list(told["stored_bytes"]) == ["bolt"] and 5_000 < told["stored_bytes"]["bolt"] < 10_000
    [row] = told["data"]
    assert (row["tenant"], row["jobs"], row["device_seconds"]) == ("bolt", {"succeeded": 1}, 1.25)


def test_nothing_is_said_so(redis_url: str, prefix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDIS_URL", redis_url)
    monkeypatch.setenv("TRUTHGPT_KEY_PREFIX", prefix)
    assert run().stdout == "no jobs have ended in these days\n"


def test_without_a_redis_it_says_what_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("REDIS_URL", raising=False)
    monkeypatch.setenv("TRUTHGPT_STATE_DIR", str(tmp_path))
    assert "REDIS_URL" in run().output
    monkeypatch.setenv("REDIS_URL", "redis://127.0.0.1:1/0")
    assert "Redis does not answer" in run().output


def test_the_redis_of_a_local_server_is_found_in_its_state_directory(tmp_path: Path) -> None:
    assert running_url(tmp_path) is None
    (tmp_path / "redis").mkdir()
    (tmp_path / "redis" / "redis.conf").write_text("bind 127.0.0.1\nport 7001\nrequirepass s3\n")
    assert running_url(tmp_path) == "redis://:s3@127.0.0.1:7001/0"
