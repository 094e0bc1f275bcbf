"""A worker's lines about jobs: each names its job; prompts only when they are asked for."""

import logging

import pytest

from shared.domain.records import Claim
from shared.telemetry.job_log import JobLog

CLAIM = Claim(
    id="job_1",
    attempt=2,
    tenant="acme",
    request=b'{"content": "my secret diary"}',
    deadline=60.0,
    created_ms=1000,
    claimed_ms=2000,
    failures=0,
    crashes=0,
    traceparent="",
    request_id="req_1",
)


@pytest.mark.parametrize(
    ("state", "level"),
    [("succeeded", "DEBUG"), ("failed", "WARNING"), ("retried", "INFO"), ("expired", "INFO")],
)
def test_an_end_names_the_job_and_why(
    caplog: pytest.LogCaptureFixture, state: str, level: str
) -> None:
    caplog.set_level(logging.DEBUG, "truthgpt.jobs")

    JobLog(prompts=False).job_ended(CLAIM, state, 0.25, "engine_error")

    [said] = caplog.records
    assert said.levelname == level
    told = vars(said)
    assert (told["job"], told["attempt"], told["tenant"]) == ("job_1", 2, "acme")
    assert (told["request_id"], told["state"], told["why"]) == ("req_1", state, "engine_error")


def test_prompts_are_not_told_unless_asked_for(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "truthgpt.jobs")

    JobLog(prompts=False).job_claimed(CLAIM)
    assert "diary" not in str([vars(said) for said in caplog.records])

    JobLog(prompts=True).job_claimed(CLAIM)
    assert "diary" in vars(caplog.records[-1])["request"]
    assert caplog.records[-1].levelname == "INFO"
