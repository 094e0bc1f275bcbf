"""No log line shows what would let its reader call."""

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from shared.store.api_key_tokens import new_token
from shared.telemetry.redaction import redact, redact_logs

ROOT = Path(__file__).resolve().parents[3]
SECRET = "Zx81-secretsecretsecretsecretsecretsecret__"


@pytest.mark.parametrize(
    "line",
    [
        f"tgk_0123456789abcdef_{SECRET}",
        f"tg_{SECRET}",
        f"Authorization: Bearer {SECRET}",
        f"authorization='bearer {SECRET}'",
        f"Basic {SECRET}",
        f"GET /v1/jobs/job_1/events?ticket=17.{SECRET} HTTP/1.1",
        f"https://hooks.example.org/in?a=1&token={SECRET}&b=2",
        f"https://user:{SECRET}@hooks.example.org/in",
        f"redis://:{SECRET}@127.0.0.1:6379/0",
        f"rediss://default:{SECRET}@cache.example.org",
        f"?signature={SECRET}",
        f"whsec_{SECRET.replace('-', '').replace('_', '')}",
    ],
)
def test_secrets_are_cut(line: str) -> None:
    assert "secretsecret" not in redact(line) and "<hidden>" in redact(line)


@pytest.mark.parametrize(
    "line",
    [
        "request req_6f1c2a9be04d4b7f8a3e5d21: GET /v1/jobs broke",
        "job_019aa61c4f3b8f0e3c5d7a9b1e2f4a6c belongs to another attempt now; dropped",
        "cannot reach http://127.0.0.1:8080/v1/jobs?limit=5 (refused)",
        "infer.demo-llama@host: 3 jobs of dead workers requeued",
    ],
)
def test_the_rest_stays(line: str) -> None:
    assert redact(line) == line


def test_the_id_of_a_key_stays_so_that_it_can_be_ended() -> None:
    assert redact(new_token("0123456789abcdef")) == "tgk_0123456789abcdef_<hidden>"


@pytest.fixture
def redacting() -> Iterator[None]:
    before = logging.getLogRecordFactory()
    redact_logs()
    yield
    logging.setLogRecordFactory(before)


def test_messages_arguments_and_tracebacks_are_redacted(
    redacting: None, caplog: pytest.LogCaptureFixture
) -> None:
    log = logging.getLogger("tests.redaction")
    redact_logs()

    log.warning("url %s, %d tries", f"redis://:{SECRET}@h/0", 3)
    log.warning(f"Bearer {SECRET}")
    try:
        raise ValueError(f"no {new_token('0' * 16)}") from KeyError(f"Bearer {SECRET}")
    except ValueError:
        log.exception("it broke")
    odd = logging.getLogRecordFactory()("name", 20, "file", 1, "%d of", ("odd",), None)

    assert "secretsecret" not in caplog.text and f"tgk_{'0' * 16}_<hidden>" in caplog.text
    assert "3 tries" in caplog.text and "Traceback" in caplog.text and "KeyError" in caplog.text
    assert caplog.records[0].args == () and odd.args == ("odd",)


@pytest.mark.parametrize(
    ("path", "call"),
    [
        ("api/wsgi.py", "redact_logs()"),
        ("api/server/access_log.py", "logs.configure("),
        ("workers/app.py", "logs.configure("),
        ("workers/host/__main__.py", "logs.configure("),
        ("shared/telemetry/logs.py", "redact_logs()"),
    ],
)
def test_every_program_begins_so(path: str, call: str) -> None:
    """Read in the source, since importing these starts them."""
    assert f"    {call}" in (ROOT / path).read_text("utf-8")
