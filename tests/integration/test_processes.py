"""The real processes with the echo engine: deaths, outages, cancels, Flower."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import psutil
import pytest
from redis import Redis

from client import ApiError, Client, text_of
from shared.broker import DELIVERY_QUEUE, RESCUE_QUEUE, make_celery, queue_name
from shared.settings import load_settings
from tests.conftest import PATIENCE, eventually
from tests.integration.conftest import ECHO
from tests.integration.stack import TOKEN, Stack
from tests.ports import free_port
from workers.operations.flower import REDACTED

HEADERS = {"Authorization": f"Bearer {TOKEN}"}
WORDS = "the quick brown fox jumps over the lazy dog " * 5


CATALOGUE = """
models:
  echo: {engine: echo, batch: {max_size: 16}}
  shared: {engine: echo, cache: {deterministic: true}}
"""


def slow(client: Client, step_ms: float = 20.0, text: str = WORDS, model: str = "echo") -> Any:
    return client.submit(model, text, params={"step_ms": step_ms})


@pytest.fixture(scope="module")
def echo(make_stack: Callable[..., Stack]) -> Stack:
    """Two workers of `echo`, none of `shared`."""
    stack = make_stack(CATALOGUE).serve("echo")
    stack.worker("echo", 2)
    return stack


def test_a_canceled_job_stops_within_a_step_and_frees_its_slot(echo: Stack) -> None:
    with echo.client() as client:
        job = slow(client, step_ms=50, text=WORDS * 20)
        stream = job.stream()
        while next(stream).type != "token":
            pass
        client.cancel(job.id)
        ended = job.wait(60)
        assert ended.status == "canceled"
        assert [event.type for event in stream][-1] == "done"
        again = client.cancel(job.id)
        assert again.status == "canceled"


@pytest.fixture(scope="module")
def frail(make_stack: Callable[..., Stack]) -> Stack:
    """Leases end early here, and the API waits briefly for readers. Tests cut its parts off one another."""
    return make_stack(ECHO, STREAM_GRACE_SEC="0.5", JOB_LEASE_SEC="1").serve("echo")


def test_a_reader_that_leaves_infer_stream_cancels_the_job(frail: Stack) -> None:
    stack = frail
    body = {"model": "echo", "prompt": WORDS * 20, "params": {"step_ms": 20}}
    with httpx.stream(
        "POST", f"{stack.url}/v1/infer/stream", headers=HEADERS, json=body, timeout=30
    ) as response:
        assert response.status_code == 200
        next(response.iter_raw(64))
    with stack.client() as client:
        job = next(client.jobs(limit=1))
        eventually(lambda: client.get(job.id).status == "canceled")


def test_an_expired_job_is_told_so(echo: Stack) -> None:
    with echo.client() as client:
        job = client.submit("echo", WORDS, params={"step_ms": 50}, expires_in=0.5)
        ended = job.wait(60)
    assert ended.status == "expired" and ended.error.code == "job_expired"


def test_a_paused_worker_is_fenced_and_the_stream_shows_no_seam(echo: Stack) -> None:
    """SIGSTOP past the lease, then SIGCONT: what the sleeper still says is refused."""
    with echo.client() as client, ThreadPoolExecutor(8) as pool:
        jobs = [slow(client, step_ms=60) for _ in range(8)]
        texts = [pool.submit(lambda job=job: text_of(job.stream())) for job in jobs]
        eventually(lambda: all(client.get(j.id).status != "queued" for j in jobs))
        sleeper = echo.processes["worker-echo-1"]
        family = [psutil.Process(sleeper.pid), *psutil.Process(sleeper.pid).children(True)]
        for member in family:
            member.send_signal(signal.SIGSTOP)
        try:
            ended = [job.wait(60) for job in jobs]
        finally:
            for member in family:
                member.send_signal(signal.SIGCONT)
        assert [job.status for job in ended] == ["succeeded"] * 8
        for job, text in zip(ended, texts, strict=True):
            assert text.result(timeout=30) == job.output["text"] == WORDS


def test_the_engine_host_dies_with_its_worker(echo: Stack) -> None:
    process = echo.worker("echo", 3)
    worker = psutil.Process(process.pid)
    eventually(lambda: worker.children(recursive=True))
    hosts = worker.children(recursive=True)
    echo.kill("worker-echo-3")
    _, alive = psutil.wait_procs(hosts, timeout=PATIENCE)
    assert alive == []


def test_redis_away_answers_503_and_comes_back_by_itself(frail: Stack) -> None:
    stack = frail
    with stack.client() as client:
        first = client.infer("echo", "before")
        stack.redis.await_written()
        stack.redis.stop()
        response = httpx.post(
            f"{stack.url}/v1/jobs",
            headers=HEADERS,
            json={"model": "echo", "prompt": "x"},
            timeout=60,
        )
        assert response.status_code == 503 and response.json()["code"] == "redis_unavailable"
        assert httpx.get(f"{stack.url}/ready", timeout=60).status_code == 503
        assert httpx.get(f"{stack.url}/health", timeout=60).status_code == 200
        stack.redis.start()

        def works() -> bool:
            try:
                return client.infer("echo", "after").status == "succeeded"
            except ApiError as error:
                return error.status not in (502, 503)

        eventually(works)
        assert client.get(first.id).output["text"] == "before"


def test_sigterm_of_a_worker_loses_nothing_and_charges_nobody(echo: Stack) -> None:
    with echo.client() as client:
        jobs = [slow(client, step_ms=30, text=WORDS * 3) for _ in range(6)]
        eventually(lambda: any(client.get(j.id).status != "queued" for j in jobs))
        process = echo.processes.pop("worker-echo-1")
        process.send_signal(signal.SIGTERM)
        ended = [job.wait(60) for job in jobs]
        assert process.wait(timeout=30) == 0
        assert [job.status for job in ended] == ["succeeded"] * 6
    echo.worker("echo", 1)


def outputs(url: str, last: str, wanted: int) -> list[tuple[str, str]]:
    """Ids and texts of a prediction's stream behind `last`: so many, or all to its end.

    It comes back where its connection breaks, as each reader of SSE does: a killed server's process takes
    calls for a moment longer.
    """
    told: list[tuple[str, str]] = []
    while True:
        try:
            for one in connected(url, told[-1][0] if told else last):
                told.append(one)
                if len(told) == wanted:
                    return told
            return told
        except httpx.TransportError:
            continue


def connected(url: str, last: str) -> Iterator[tuple[str, str]]:
    """What one connection tells of a prediction's stream behind `last`, to its end."""
    headers = {"Last-Event-ID": last} if last else {}
    with httpx.stream("GET", url, headers=headers, timeout=30) as response:
        assert response.status_code == 200
        event: dict[str, str] = {}
        for line in response.iter_lines():
            name, _, value = line.partition(": ")
            if name != "":
                event[name] = value
            elif event.get("event") == "output":
                yield event["id"], event["data"]
            elif event.get("event") is not None:
                assert (event["event"], event["data"]) == ("done", "{}")
                yield event["id"], ""
                return


def test_a_stream_of_a_prediction_shows_no_seam_whatever_dies(echo: Stack) -> None:
    """kill -9 of the engine hosts, of the workers, of the API; its reader comes back with `Last-Event-ID`."""
    path, body = "/v1/models/truthgpt/echo/predictions", {"prompt": WORDS, "step_ms": 80}
    answer = httpx.post(f"{echo.url}{path}", headers=HEADERS, json={"input": body}, timeout=30)
    assert answer.status_code == 201
    url = answer.json()["urls"]["stream"]
    told: list[tuple[str, str]] = []
    for kill in ("hosts", "workers", "api"):
        told += outputs(url, told[-1][0] if told else "", 3)
        if kill == "hosts":
            for number in (1, 2):
                worker = psutil.Process(echo.processes[f"worker-echo-{number}"].pid)
                for child in worker.children(recursive=True):
                    child.kill()
        elif kill == "workers":
            for number in (1, 2):
                echo.kill(f"worker-echo-{number}")
                echo.worker("echo", number)
        else:
            echo.kill("api")
            echo.start("api", "api")
            echo.ready("echo")
    told += outputs(url, told[-1][0], -1)

    assert "".join(text for _, text in told) == WORDS
    assert len({identity for identity, _ in told}) == len(told)
    ended = httpx.get(f"{echo.url}/v1/jobs/{answer.json()['id']}", headers=HEADERS).json()
    assert ended["attempt"] > 1, "nothing was in flight when the workers died"
    assert httpx.get(url, headers={"Last-Event-ID": told[-1][0]}).status_code == 204


def test_no_key_of_ours_lives_for_ever(echo: Stack) -> None:
    with echo.client() as client:
        client.infer("echo", "x")
        with pytest.raises(ApiError):
            client.submit("nope", "x")
    from redis import Redis

    redis = Redis.from_url(echo.redis.url)
    names = [n for n in redis.scan_iter("truthgpt:*") if b":broker:" not in n]
    assert names and [n for n in names if redis.ttl(n) == -1] == []


@pytest.mark.parametrize("cut", ["paused", "denied"])
def test_a_worker_whose_consumer_is_cut_from_the_broker_is_not_ready(
    frail: Stack, cut: str
) -> None:
    """The worker goes on reporting; only what would bring it jobs has ended."""
    stack = frail
    app = make_celery(load_settings(redis_url=stack.redis.url))
    admin = Redis.from_url(stack.redis.url)

    def ready() -> httpx.Response:
        return httpx.get(f"{stack.url}/ready", timeout=10)

    def said(status: int, *, consuming: bool) -> bool:
        found = ready()
        check = found.json()["checks"]["models"]["echo"]
        return found.status_code == status and check["consuming"] is consuming

    if cut == "paused":
        app.control.cancel_consumer(queue_name("echo"))
    else:
        admin.acl_setuser("default", enabled=True, commands=["-brpop"])
    eventually(lambda: said(503, consuming=False), what="it is found out")
    assert "echo is unhealthy: no worker of it takes doorbells" in ready().json()["detail"]
    assert admin.llen(f"truthgpt:broker:{queue_name('echo')}") <= 2, "rings do not pile up"
    with stack.client() as client:
        job = client.submit("echo", "found by a second look")
        assert job.wait(60).status == "succeeded"
    if cut == "paused":
        app.control.add_consumer(queue_name("echo"))
    else:
        admin.acl_setuser("default", enabled=True, commands=["+brpop"])
    eventually(lambda: said(200, consuming=True), what="it hears again")
    admin.close()


def test_flower_shows_jobs_by_id_and_its_revoke_cancels(echo: Stack) -> None:
    port = free_port()
    echo.start("flower", "flower", "--port", str(port))
    flower = httpx.Client(base_url=f"http://127.0.0.1:{port}", auth=("truthgpt", TOKEN), timeout=10)

    def tasks() -> dict[str, Any]:
        try:
            found: dict[str, Any] = flower.get("/api/tasks").json()
            return found
        except (httpx.HTTPError, json.JSONDecodeError):
            return {}

    def up() -> bool:
        try:
            return flower.get("/healthcheck").status_code == 200
        except httpx.HTTPError:
            return False

    eventually(up, what="flower answers")
    for path in ("/", "/tasks", "/broker", "/api/tasks", "/api/workers", "/metrics"):
        refused = httpx.get(f"http://127.0.0.1:{port}{path}", timeout=10)
        shown = flower.get(path)
        assert (refused.status_code, shown.status_code) == (401, 200), path
        missing, style = flower.get("/nothing"), flower.get("/static/css/flower.css")
        for answer in (refused, shown, missing, style):
            assert answer.headers["Content-Security-Policy"] == "frame-ancestors 'none'", path
    queues = flower.get("/broker").text
    for queue in (queue_name("echo"), RESCUE_QUEUE, DELIVERY_QUEUE):
        assert f'<tr id="{queue}">' in queues
    with echo.client() as client:

        def listed() -> bool:
            job = client.infer("echo", "a secret prompt")
            return bool(eventually_found(tasks, job.id, "SUCCESS"))

        eventually(listed, what="a finished job in flower")
        listing = tasks()
        assert "secret" not in json.dumps(listing)
        # Jobs and nothing else: the doorbells that brought them are not among them.
        assert {
            (task["uuid"][:4], task["name"], task["args"], task["kwargs"])
            for task in listing.values()
        } == {("job_", "infer.echo", REDACTED, "{}")}
        ended = next(task for task in listing.values() if task["state"] == "SUCCESS")
        assert ended["result"] == REDACTED and ended["runtime"] > 0

        running = slow(client, step_ms=200)
        eventually(lambda: tasks().get(running.id, {}).get("state") == "STARTED")
        refused = httpx.post(f"http://127.0.0.1:{port}/api/task/revoke/{running.id}", timeout=10)
        assert refused.status_code == 401
        answer = flower.post(f"/api/task/revoke/{running.id}", params={"terminate": "true"})
        assert answer.status_code == 200, answer.text
        assert running.wait(60).status == "canceled"
        eventually(lambda: tasks()[running.id]["state"] == "REVOKED")

        crowd = [slow(client, step_ms=500) for _ in range(60)]
        waiting = crowd[-1]
        assert client.get(waiting.id).status == "queued"
        flower.post(f"/api/task/revoke/{waiting.id}").raise_for_status()
        revoked = waiting.wait(60)
        assert (revoked.status, revoked.attempt) == ("canceled", 0)
        for job in crowd:
            client.cancel(job.id)

    def worker() -> str | None:
        # Flower asks the workers and waits a second for their answers.
        workers = flower.get("/api/workers", params={"refresh": "true"}).json()
        return next((name for name in workers if name.startswith("echo-")), None)

    eventually(worker, what="a worker answers flower")
    for call in ("grow/{}?n=1", "shrink/{}?n=1", "autoscale/{}?min=1&max=2", "restart/{}"):
        idle = flower.post("/api/worker/pool/" + call.format(worker()))
        assert idle.status_code == 403 and "A worker " in idle.text, idle.text
    os.kill(echo.processes["flower"].pid, 0)


def test_top_shows_the_queue_and_the_workers(echo: Stack) -> None:
    with echo.client() as client:
        crowd = [slow(client, step_ms=500) for _ in range(60)]

        def told() -> bool:
            [model] = [model for model in client.models() if model.name == "echo"]
            return sum(worker["active"] for worker in model.raw["workers"]) > 0

        eventually(told, what="a worker has said what it runs")
        command = [sys.executable, "-m", "cli", "--url", echo.url, "top", "--once"]
        env = {**os.environ, "TRUTHGPT_API_TOKEN": TOKEN}
        shown = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60)
        for job in crowd:
            client.cancel(job.id)
    assert shown.returncode == 0, shown.stderr
    [model] = re.findall(r"^echo +(\w+) +(\d+) +(\d+ m?s) ", shown.stdout, re.MULTILINE)
    # The state of the best worker: the other one may have had nothing yet.
    assert model[0] in ("busy", "ready") and 0 < int(model[1]) < 60
    workers = re.findall(r":(\d+) +echo +(?:busy|ready) .* (\d+)/16 +cpu ", shown.stdout)
    started = {str(process.pid) for process in echo.processes.values()}
    assert workers and {pid for pid, _ in workers} <= started
    assert sum(int(active) for _, active in workers) > 0


def eventually_found(tasks: Callable[[], dict[str, Any]], job_id: str, state: str) -> bool:
    deadline = time.monotonic() + 2
    while time.monotonic() < deadline:
        if tasks().get(job_id, {}).get("state") == state:
            return True
        time.sleep(0.05)
    return False


@pytest.fixture(scope="module")
def sharing(echo: Stack) -> Stack:
    """A worker of `shared`, whose answers may be shared."""
    echo.worker("shared")
    echo.ready("shared")
    return echo


SHARED_TEXT = WORDS * 2
"""Long enough for all others to ask while the leader runs."""


def shared(stack: Stack) -> tuple[str, Any]:
    with stack.client() as client:
        job = slow(client, step_ms=40, text=SHARED_TEXT, model="shared")
        return text_of(job.stream()), job.wait(60)


def running(client: Client) -> list[Any]:
    return [*client.jobs(status="running", model="shared")]


def test_those_who_share_an_execution_survive_its_worker(sharing: Stack) -> None:
    """kill -9 under a leader: one execution goes on elsewhere, and every stream has the whole text once."""
    with ThreadPoolExecutor(8) as pool, sharing.client() as client:
        first = pool.submit(shared, sharing)
        eventually(lambda: running(client), what="the leader runs")
        others = [pool.submit(shared, sharing) for _ in range(6)]
        eventually(lambda: len([*client.jobs(model="shared")]) == 7, what="all have asked")
        [leader] = running(client)
        sharing.kill("worker-shared-1")
        sharing.worker("shared", 2)
        ended = [run.result(timeout=90) for run in (first, *others)]
        late = client.infer("shared", SHARED_TEXT, params={"step_ms": 40.0})
    assert {text for text, _ in ended} == {SHARED_TEXT}
    assert {job.status for _, job in ended} == {"succeeded"}
    assert [job.id for _, job in ended if not job.cached] == [leader.id]
    assert max(job.attempt for _, job in ended) > 1, "nothing was in flight when the worker died"
    assert late.cached and late.output["text"] == SHARED_TEXT


def test_an_heir_continues_what_its_canceled_leader_said(sharing: Stack) -> None:
    words = WORDS[:90]
    with sharing.client() as client:
        leader, *heirs = (slow(client, 100, words, "shared") for _ in range(3))
        stream = heirs[0].stream()
        heard = [event for event in (next(stream), next(stream)) if event.type == "token"]
        client.cancel(leader.id)
        texts = [text_of([*heard, *stream]), text_of(heirs[1].stream())]
        assert leader.wait(60).status == "canceled"
        ended = [heir.wait(60) for heir in heirs]
    assert heard, "it was canceled after it had spoken"
    assert texts == [words, words]
    assert [(job.status, job.cached) for job in ended] == [
        ("succeeded", False),
        ("succeeded", True),
    ]
    assert ended[0].attempt > 1
