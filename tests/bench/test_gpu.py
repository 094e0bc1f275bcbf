import json
import sys
from pathlib import Path

import pytest
import torch

from bench.gpu.__main__ import main
from bench.gpu.models import LARGE, TINY, bytes_read, make
from bench.gpu.roofline import tokens_per_second

CPU = torch.device("cpu")


def run(monkeypatch: pytest.MonkeyPatch, *options: str) -> int:
    monkeypatch.setattr(sys, "argv", ["bench.gpu", *options])
    return main()


def test_a_tiny_model_on_the_cpu_goes_through_all_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "--cpu-check", "--results", str(tmp_path)) == 0

    [text] = [path.read_text() for path in tmp_path.glob("*-gpu.md")]
    [found] = [json.loads(path.read_text()) for path in tmp_path.glob("*-gpu.json")]
    assert text.strip() in capsys.readouterr().out
    rows = {(row["subject"], row["batch"]): row for row in found["rows"]}
    assert len(rows) == 6
    assert {row["fault"] for row in rows.values()} == {""}
    assert all(len(row["rates"]) == 1 and row["rates"][0] > 0 for row in rows.values())
    for batch in (1, 3):
        assert rows["truthgpt-inference", batch]["decode"][0] > 0
        assert rows["truthgpt-inference", batch]["shares"][0] > 0
    assert found["engines"]["tiny"]["batching"] == "packed"


def test_without_a_device_it_says_so_and_measures_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)

    assert run(monkeypatch, "--results", str(tmp_path)) == 2

    assert "no CUDA device" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_the_bound_counts_weights_once_a_step_and_the_past_of_each_sequence() -> None:
    dtype = torch.bfloat16
    assert LARGE.kv_bytes(dtype) == 131_072
    weights = 16_000_000_000

    alone = tokens_per_second(4000, 1, 0, weights, LARGE, dtype)
    many = tokens_per_second(4000, 32, 1000, weights, LARGE, dtype)

    assert alone == pytest.approx(250)
    assert many == pytest.approx(32 * 4e12 / (weights + 32 * 1000 * 131_072))


def test_the_rows_of_the_first_layer_are_not_all_read() -> None:
    model = make(TINY, CPU, torch.float32)
    table = TINY.vocabulary * TINY.hidden * 4

    everything = sum(weight.numel() * 4 for weight in model.parameters())

    assert bytes_read(model, TINY) == everything - table
