"""The engine host says what it says in the form of all other processes."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from shared.domain.models.catalog_file import load_catalog
from tests.conftest import eventually
from workers.engine_host.client import EngineClient
from workers.engine_host.events import EngineState


def test_a_host_that_cannot_load_logs_one_json_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "c.yaml"
    config.write_text(
        "models: {broken: {engine: 'tests.workers.faulty:Faulty', options: {load: raise}}}"
    )
    monkeypatch.setenv("TRUTHGPT_MODEL", "broken")
    nobody = SimpleNamespace(
        engine_stepped=lambda *_: None, engine_lost=lambda *_: None, engine_changed=lambda *_: None
    )
    client = EngineClient(load_catalog(config).get("broken"), nobody)
    client.start()
    eventually(lambda: client.state is EngineState.FAILED)
    client.stop()

    [line] = [json.loads(row) for row in capfd.readouterr().err.splitlines() if row[:1] == "{"][:1]
    assert line["process"] == "engine-broken" and line["logger"] == "workers.host"
    assert line["level"] == "error" and line["event"] == "loading broken failed"
    assert line["exception"]["type"] == "builtins.RuntimeError"
    assert line["exception"]["frames"][-1]["function"] == "load"
