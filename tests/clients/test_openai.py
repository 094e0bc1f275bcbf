"""OpenAI's clients as they are released, LangChain and the AI SDK, against the routes of OpenAI's dialect."""

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import psutil
import pytest

from shared.redis.connection import connect
from shared.store.jobs import JobStore
from tests.clients.conftest import MODELS, PROGRAMS, ROOT, checks, printed
from tests.clients.counting import CountingProxy
from tests.clients.environments import node_environment, python_environment, run
from tests.conftest import eventually
from tests.integration.stack import TOKEN, Stack

EXAMPLES = ROOT / "examples"


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    "name",
    [
        *("openai_client.py", "openai_responses.py", "openai_batches.py"),
        *("openai_client.mjs", "openai_responses.mjs", "openai_batches.mjs"),
    ],
)
def test_openais_clients_langchain_and_the_ai_sdk(stack: Stack, tmp_path: Path, name: str) -> None:
    ran = openai_program(name, stack.url, tmp_path)

    assert printed(PROGRAMS / name, ran) == checks(PROGRAMS / name)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", ["openai_failing.py", "openai_failing.mjs"])
def test_a_job_that_fails_for_good_is_posted_once(
    counted: CountingProxy, tmp_path: Path, name: str
) -> None:
    ran = openai_program(name, counted.url, tmp_path)

    assert printed(PROGRAMS / name, ran) == checks(PROGRAMS / name)
    assert counted.posts == json.loads((tmp_path / "called.json").read_text())


@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", ["openai_lost.py", "openai_lost.mjs"])
def test_what_is_asked_again_because_its_answer_was_lost_runs_once(
    stack: Stack, counted: CountingProxy, tmp_path: Path, name: str
) -> None:
    counted.loses = True
    store = JobStore(connect(stack.redis.url, 5.0))
    before = jobs_of(store)

    ran = openai_program(name, counted.url, tmp_path)

    assert printed(PROGRAMS / name, ran) == checks(PROGRAMS / name)
    jobs = json.loads((tmp_path / "jobs.json").read_text())
    assert len(jobs_of(store) - before) == jobs
    assert counted.lost == jobs and counted.posts.total() == 2 * jobs


def openai_program(name: str, url: str, folder: Path) -> "subprocess.CompletedProcess[str]":
    """A program with OpenAI's clients, run in `folder`."""
    program = PROGRAMS / name
    if program.suffix == ".py":
        command = [str(python_environment()), str(program)]
    else:
        (folder / "node_modules").symlink_to(node_environment("openai") / "node_modules")
        command = ["node", shutil.copy(program, folder)]
    return run([*command, url, TOKEN], folder, seconds=300)


def jobs_of(store: JobStore) -> set[bytes]:
    """The keys of all jobs, of all tenants and in all states."""
    return set(store.redis.scan_iter(store.keys("job", "*"), count=1000))


@pytest.mark.timeout(600)
def test_the_example_embeds_texts_in_a_batch(stack: Stack, tmp_path: Path) -> None:
    program = ROOT / "examples" / "batch_of_embeddings.py"

    ran = run(
        [str(python_environment()), str(program), stack.url, TOKEN, "100"], tmp_path, seconds=500
    )

    assert ran.stdout.splitlines()[-1] == "100 vectors of 384 numbers"


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("openai_tools.py", r'temperature\(\{"city":"(Oslo|Lagos)"\}\) = (-4|31)\n.*\n'),
        ("openai_background.py", r"resp_\w+ queued\nresponse\.(completed|incomplete)\n.+\n"),
    ],
)
def test_the_examples_of_openais_client_run(
    stack: Stack, tmp_path: Path, name: str, says: str
) -> None:
    command = [str(python_environment()), str(EXAMPLES / name), "demo-llama"]

    ran = run(command, tmp_path, OPENAI_BASE_URL=f"{stack.url}/v1", OPENAI_API_KEY=TOKEN)

    assert ran.returncode == 0 and re.fullmatch(says, ran.stdout, re.DOTALL), ran.stdout


@pytest.mark.chaos
@pytest.mark.timeout(400)
def test_a_stream_that_is_taken_up_is_what_is_stored_whatever_dies(
    stack: Stack, tmp_path: Path
) -> None:
    """The last test, for it kills the worker, the API and Redis while a response is followed.

    A job may lose its workers twice: one is killed here, and leases may lapse while Redis is away. What the
    death of an engine host does to a text is a matter of tests/integration.
    """
    store = JobStore(connect(stack.redis.url, 5.0))
    python, program = str(python_environment()), PROGRAMS / "openai_crashes.py"
    command = [python, str(program), stack.url, TOKEN]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as ran:
        assert ran.stdout is not None
        job_id = ran.stdout.readline().strip().replace("resp_", "job_")
        for kill in (kill_worker, kill_api, kill_redis):
            goes_on(store, job_id)
            kill(stack)
        out, _ = ran.communicate(timeout=300)
    stack.ready(*MODELS)

    assert ran.returncode == 0, out
    said, breaks = out.split()
    assert said == "same" and int(breaks) >= 1, out
    assert int(store.get(job_id).fields["attempt"]) >= 2


def goes_on(store: JobStore, job_id: str) -> None:
    """Wait until the job has said more than it has now."""
    before = events_of(store, job_id)
    eventually(lambda: events_of(store, job_id) > before, 120, what="the text goes on")


def events_of(store: JobStore, job_id: str) -> int:
    """How many events the log of a job has; it must not have ended."""
    assert not store.get(job_id).terminal, "too fast for this test"
    length: Any = store.redis.xlen(store.keys("log", job_id))
    return int(length)


def kill_worker(stack: Stack) -> None:
    stack.kill("worker-demo-llama-1")
    stack.worker("demo-llama")


def kill_api(stack: Stack) -> None:
    """With its children, which would serve on."""
    processes = psutil.Process(stack.processes["api"].pid).children(recursive=True)
    stack.kill("api")
    for process in processes:
        process.kill()
    stack.start("api", "api")


def kill_redis(stack: Stack) -> None:
    stack.redis.await_written()
    stack.redis.stop()
    stack.redis.start()
