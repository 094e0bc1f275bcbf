"""Log lines: one JSON object each, everything in it that names the work, and no secret."""

import io
import json
import logging
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from shared import context
from shared.telemetry import logs
from shared.telemetry.logs import MOST_CHARS, JsonFormatter, Lines, PlainFormatter
from shared.telemetry.tracebacks import MOST_FRAMES

SECRET = "Zx81secretsecretsecretsecretsecretsecretsec"
TRACE = f"00-{'a' * 32}-{'b' * 16}-01"


@pytest.fixture(autouse=True)
def nothing_bound() -> Iterator[None]:
    context.begin()
    yield
    context.begin()


def record(message: str, *args: object, level: int = logging.INFO, **extra: Any) -> Any:
    return logging.getLogger("workers.part").makeRecord(
        "workers.part", level, "file.py", 1, message, args, extra.pop("exc_info", None), extra=extra
    )


def line(message: str, *args: object, **extra: Any) -> dict[str, Any]:
    formatter = JsonFormatter("worker-echo", {"model": "echo"})
    text = formatter.format(record(message, *args, **extra))
    assert "\n" not in text
    found: dict[str, Any] = json.loads(text)
    return found


def test_a_line_says_when_how_bad_who_and_what() -> None:
    found = line("%d jobs", 3, level=logging.WARNING)

    assert found["time"].endswith("Z") and len(found["time"]) == len("2026-01-01T00:00:00.000Z")
    assert found["level"] == "warning" and found["logger"] == "workers.part"
    assert found["event"] == "3 jobs"
    assert found["process"] == "worker-echo" and found["model"] == "echo" and found["pid"] > 0


def test_what_is_bound_stands_in_every_line_and_what_is_passed_in_this_one() -> None:
    context.begin(request_id="req_1", tenant="acme", traceparent=TRACE)

    found = line("x", job="job_1", attempt=2, seconds=0.5, payload={"prompt": "p"})

    assert found["request_id"] == "req_1" and found["tenant"] == "acme"
    assert found["trace_id"] == "a" * 32 and found["span_id"] == "b" * 16
    assert "traceparent" not in found
    assert found["job"] == "job_1" and found["attempt"] == 2 and found["seconds"] == 0.5
    assert "payload" not in found


def test_an_exception_is_data_on_the_same_line() -> None:
    def deep(levels: int) -> None:
        if levels:
            deep(levels - 1)
        raise KeyError(f"redis://:{SECRET}@host/0")

    try:
        try:
            deep(2 * MOST_FRAMES)
        except KeyError as error:
            raise ValueError("it broke") from error
    except ValueError:
        found = line("oh", exc_info=sys.exc_info())["exception"]

    assert found["type"] == "builtins.ValueError" and found["message"] == "it broke"
    assert found["frames"][-1]["function"] == "test_an_exception_is_data_on_the_same_line"
    assert found["cause"]["type"] == "builtins.KeyError"
    assert len(found["cause"]["frames"]) == MOST_FRAMES
    assert SECRET not in json.dumps(found)


def test_text_from_outside_breaks_no_line_and_floods_none() -> None:
    assert line("a\nb\ud800\x00")["event"] == "a\nb?\x00"
    assert line("x", name_of_file="\ud800")["name_of_file"] == "?"
    long = line("y" * 100_000)["event"]
    assert len(long) < MOST_CHARS + 50 and long.endswith(f"({100_000 - MOST_CHARS} more)")


def test_words_for_a_person_have_the_same_members_and_a_whole_traceback() -> None:
    try:
        raise RuntimeError("no")
    except RuntimeError:
        given = record("it broke", level=logging.ERROR, job="job_1", exc_info=sys.exc_info())

    first, *rest = PlainFormatter(clock=False).format(given).splitlines()

    assert first == "ERROR workers.part: it broke job=job_1"
    assert rest[0].startswith("Traceback") and rest[-1] == "RuntimeError: no"


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """What stands on standard error, while nothing but this module's handler hears."""
    handler = Lines(JsonFormatter("api", {"site": "a"}))
    handler.stream = io.StringIO()
    monkeypatch.setattr(logging.getLogger(), "handlers", [handler])
    return handler.stream


def test_what_is_said_for_less_is_the_line_that_logging_writes(written: io.StringIO) -> None:
    context.begin(request_id="req_1", traceparent=TRACE)
    said = {
        "status": 200,
        "bytes": None,
        "route": "/v1/x",
        "url": f"redis://:{SECRET}@h",
        "n": "\ud800",
    }
    logger = logging.getLogger("workers.part")

    logger.log(logging.ERROR, "request", extra=said)
    logs.say(logger, logging.ERROR, "request", said)

    logged, told = (json.loads(row) for row in written.getvalue().splitlines())
    assert list(told) == list(logged)
    assert told | {"time": logged["time"]} == logged
    assert told["url"] == "redis://<hidden>@h" and told["n"] == "?" and "bytes" not in told


def test_what_is_said_for_less_goes_through_logging_where_others_hear(
    written: io.StringIO, caplog: pytest.LogCaptureFixture
) -> None:
    root = logging.getLogger()
    root.addHandler(caplog.handler)
    logger = logging.getLogger("workers.part")

    logs.say(logger, logging.ERROR, "request", {"status": 200})
    logs.say(logger, logging.DEBUG, "not said", {})

    assert [record.status for record in caplog.records] == [200]  # type: ignore[attr-defined]
    assert [json.loads(row)["status"] for row in written.getvalue().splitlines()] == [200]


def test_a_standard_error_that_nobody_reads_breaks_no_caller(
    written: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging, "raiseExceptions", False)
    logger = logging.getLogger("workers.part")
    logs.say(logger, logging.ERROR, "before", {})
    assert "before" in written.getvalue(), "it is written there while somebody reads"
    written.close()

    logs.say(logger, logging.ERROR, "request", {"status": 200})


PROGRAM = f"""
import logging, threading, warnings
from shared.settings import load_settings
from shared.telemetry import logs
logs.configure(load_settings(), "api")
log = logging.getLogger("api.part")
log.warning("Authorization: Bearer {SECRET}")
log.warning("GET /v1/jobs/j/events?ticket=17.%s", "{SECRET}", extra={{"url": "rediss://u:{SECRET}@h"}})
try:
    raise OSError("Bearer {SECRET}")
except OSError:
    log.exception("it broke")
log.info("not said")
logging.getLogger("loud.one").debug("said all the same")
warnings.warn("old")
thread = threading.Thread(target=lambda: 1 / 0, name="t7"); thread.start(); thread.join()
raise SystemError("{SECRET} redis://:{SECRET}@h/0".split(" ")[1])
"""


def said(**environment: str) -> str:
    ran = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env={"PATH": "", "PYTHONPATH": ":".join(sys.path), **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ran.returncode == 1 and ran.stdout == ""
    return ran.stderr


def test_a_process_says_everything_in_this_form_and_no_secret() -> None:
    text = said(LOG_LEVEL="WARNING", LOG_LEVELS="loud=DEBUG")

    lines = [json.loads(row) for row in text.splitlines()]
    assert SECRET not in text and text.count("<hidden>") >= 5
    assert [row["logger"] for row in lines] == [
        *["api.part"] * 3,
        "loud.one",
        "py.warnings",
        *["shared.telemetry.logs"] * 2,
    ]
    assert (
        lines[-2]["exception"]["type"] == "builtins.ZeroDivisionError"
        and "t7" in lines[-2]["event"]
    )
    assert (
        lines[-1]["level"] == "critical"
        and lines[-1]["exception"]["type"] == "builtins.SystemError"
    )


def test_words_when_structure_is_not_wanted() -> None:
    text = said(ENABLE_STRUCTURED_LOGGING="false")

    assert "WARNING api.part: Authorization: Bearer <hidden>\n" in text
    assert "INFO api.part: not said\n" in text and "said all the same" not in text
    assert "ZeroDivisionError" in text and SECRET not in text


def test_a_line_that_is_written_while_the_process_forks_does_not_silence_the_child() -> None:
    program = """
import os, threading
from shared.telemetry.logs import JsonFormatter, Lines

handler = Lines(JsonFormatter("worker-a", {}))
taken, over = threading.Event(), threading.Event()

def write():
    handler.acquire()
    taken.set()
    over.wait()
    handler.release()

threading.Thread(target=write).start()
taken.wait()
child = os.fork()
if child == 0:
    # Ends it, where the lock is never let go.
    threading.Timer(5, os._exit, (3,)).start()
    handler.acquire()
    os._exit(0)
over.set()
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True
    )

    assert done.stdout == "0\n"
