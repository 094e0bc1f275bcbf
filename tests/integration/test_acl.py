"""The smallest access control list that runs everything, as docs/redis.md prints it; and what a denial is."""

import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from redis import Redis

from shared.redis.guard import look
from tests.conftest import eventually
from tests.integration.conftest import ECHO, REPOSITORY
from tests.integration.stack import TOKEN, Stack
from tests.ports import free_port
from tests.receivers import SECRET, receiver

PASSWORD = "a-password-of-16-chars"
SCRIPTS = Path(REPOSITORY, "shared/store/lua").rglob("*.lua")


def rules() -> list[str]:
    """The user's rules in the documentation, from `ACL SETUSER truthgpt` on, without its password."""
    page = (REPOSITORY / "docs/redis.md").read_text("utf-8")
    block = re.search(r"```\nACL SETUSER truthgpt (on .*?)```", page, re.DOTALL)
    assert block is not None
    return [rule for rule in block[1].replace("\\\n", " ").split() if not rule.startswith(">")]


@pytest.fixture(scope="module")
def admin(stack: Stack) -> Iterator["Redis"]:
    with Redis.from_url(stack.redis.url, decode_responses=True) as admin:
        yield admin


@pytest.fixture(scope="module")
def stack(make_stack: Callable[..., Stack]) -> Stack:
    stack = make_stack(
        ECHO,
        WEBHOOK_HMAC_SECRET=SECRET,
        WEBHOOK_ALLOW_HOSTS="127.0.0.1",
        TRUTHGPT_TESTING="1",
        RATE_LIMIT_RPM="1000",
    )
    with Redis.from_url(stack.redis.url) as redis:
        redis.execute_command("ACL", "SETUSER", "truthgpt", "reset", f">{PASSWORD}", *rules())
        redis.execute_command("ACL", "LOG", "RESET")
    stack._env["REDIS_URL"] = stack.redis.url.replace("//", f"//truthgpt:{PASSWORD}@")
    return stack.serve("echo")


def command(stack: Stack, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "cli", *arguments],
        env=stack._env,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def denied(admin: "Redis") -> list[dict[str, Any]]:
    """What was denied, but for the names of client libraries, which older servers do not know."""
    log: Any = admin.acl_log(count=1000)
    said = [{name: str(row[name]) for name in ("reason", "object", "context")} for row in log]
    return [row for row in said if row["object"] != "client|setinfo"]


def test_everything_runs_under_it_and_nothing_is_denied(stack: Stack, admin: "Redis") -> None:
    port = free_port()
    stack.start("flower", "flower", "--port", str(port))
    with stack.client() as client, receiver() as there:
        webhook = {"url": there.url, "events": ["started", "completed"]}
        job = client.submit("echo", "hello", webhook=webhook)
        assert client.get(job.id, wait=20).status == "succeeded"
        eventually(lambda: len(there.got) >= 2, what="both webhooks arrive")
        assert client.infer("echo", "hello").output
        assert list(client.stream("echo", "one two three"))
        slow = client.submit("echo", "x " * 200, params={"step_ms": 50})
        client.cancel(slow.id)
        assert client.get(slow.id, wait=20).status == "canceled"
        client.delete(slow.id)
        assert client.deliveries(job.id) and client.jobs() and client.models() and client.stats()
        client.dead()
        client.reset_breaker("echo")
    with httpx.Client(base_url=stack.url, headers={"Authorization": f"Bearer {TOKEN}"}) as http:
        assert http.get("/ready").status_code == 200
        assert http.get("/metrics").status_code == 200
    flower = httpx.Client(base_url=f"http://127.0.0.1:{port}", auth=("truthgpt", TOKEN), timeout=10)
    with flower:
        eventually(lambda: _status(flower, "/healthcheck") == 200, what="flower answers")
        for page in ("/", "/broker", "/tasks", "/api/workers?refresh=1"):
            assert flower.get(page).status_code == 200, page
        # One that ends before Flower listens is never shown.
        run: list[str] = []
        eventually(lambda: _shows_one(stack, flower, run), what="a job is in flower")
    made = command(stack, "keys", "create", "--tenant", "other", "--scopes", "jobs:write", "--json")
    command(stack, "keys", "revoke", json.loads(made)["id"])
    command(stack, "usage")
    command(stack, "health", "worker", "--model", "echo", "--serving")
    command(stack, "health", "rescue")
    # A worker that dies: its leases run out, and the rescuer gives its work to the next.
    stack.kill("worker-echo-1")
    with stack.client() as client:
        waiting = client.submit("echo", "after a death")
        stack.worker("echo", 2)
        assert client.get(waiting.id, wait=40).status == "succeeded"
    assert look(stack._env["REDIS_URL"], 2.0, "truthgpt") == []
    assert denied(admin) == []
    keys = {key.split(":")[0] for key in admin.scan_iter(count=1000)}
    assert keys == {"truthgpt"}


def test_every_command_of_the_scripts_is_in_it() -> None:
    named = {rule[1:].lower() for rule in rules() if rule.startswith("+")}
    in_scripts = {
        found.lower()
        for path in SCRIPTS
        for found in re.findall(r"redis\.p?call\(\s*'(\w+)'", path.read_text("utf-8"))
    }
    assert in_scripts <= named


def test_a_denial_is_503_with_the_commands_name(stack: Stack, admin: "Redis") -> None:
    with httpx.Client(base_url=stack.url, headers={"Authorization": f"Bearer {TOKEN}"}) as http:
        admin.execute_command("ACL", "SETUSER", "truthgpt", "-hset")
        try:
            answer = http.post("/v1/jobs", json={"model": "echo", "prompt": "x"})
        finally:
            admin.execute_command("ACL", "SETUSER", "truthgpt", "+hset")
        assert answer.status_code == 503, answer.text
        assert answer.json()["code"] == "redis_unavailable"
        assert "the command hset" in answer.json()["detail"]
        assert http.post("/v1/jobs", json={"model": "echo", "prompt": "x"}).status_code == 202


def _shows_one(stack: Stack, flower: httpx.Client, run: list[str]) -> bool:
    """Run one more job, and look for any of them."""
    with stack.client() as client:
        run.append(client.infer("echo", "shown").id)
    shown = flower.get("/api/tasks").text
    return any(job_id in shown for job_id in run)


def _status(http: httpx.Client, path: str) -> int:
    try:
        return http.get(path).status_code
    except httpx.TransportError:
        return 0
