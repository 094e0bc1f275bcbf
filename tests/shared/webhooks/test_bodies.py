"""The bodies of webhooks: native ones, predictions of Replicate's API."""

import json

import pytest

from shared.domain.predictions import version_id
from shared.webhooks.bodies import body

FIELDS = {
    "job": "job_" + "0" * 32,
    "type": "job.completed",
    "base": "https://api.example",
    "created": "1700000000123",
    "job.model": "llama",
    "job.state": "succeeded",
    "job.created": "1700000000000",
    "job.finished": "1700000000123",
    "job.attempt": "1",
    "job.output": '{"text":"data:,x","finish_reason":"stop"}',
}


def test_a_job_is_told_natively() -> None:
    told = json.loads(body(FIELDS))

    assert told["type"] == "job.completed"
    assert told["data"]["urls"]["get"] == f"https://api.example/v1/jobs/{FIELDS['job']}"
    assert told["data"]["output"]["text"] == "data:,x"


@pytest.mark.parametrize(
    ("form", "output"),
    [
        ("replicate-text", ["d", "ata:,x"]),
        ("replicate", {"text": "data:,x", "finish_reason": "stop"}),
    ],
)
def test_a_prediction_is_told_as_replicate_does(form: str, output: object) -> None:
    told = json.loads(body({**FIELDS, "form": form}))

    assert told["id"] == FIELDS["job"]
    assert (told["status"], told["output"]) == ("succeeded", output)
    assert told["version"] == version_id("llama")
    assert told["urls"]["stream"] == f"https://api.example/v1/predictions/{FIELDS['job']}/stream"
