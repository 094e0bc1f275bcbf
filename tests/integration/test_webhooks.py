"""Webhooks through real processes: the API, a worker, and a delivery worker that is killed and drained."""

import signal
import subprocess
from collections.abc import Callable, Iterator

import pytest
from standardwebhooks import Webhook

from client import Client, Job
from shared.redis.connection import connect
from shared.store.keys import Keys
from tests.conftest import eventually
from tests.integration.conftest import ECHO
from tests.integration.stack import Stack
from tests.receivers import SECRET, Receiver, receiver

KEYS = Keys("truthgpt")


@pytest.fixture(scope="module")
def stack(make_stack: Callable[..., Stack]) -> Stack:
    return make_stack(
        ECHO, WEBHOOK_HMAC_SECRET=SECRET, WEBHOOK_ALLOW_HOSTS="127.0.0.1", TRUTHGPT_TESTING="1"
    ).serve("echo")


@pytest.fixture
def client(stack: Stack) -> Iterator[Client]:
    with stack.client() as client:
        yield client


@pytest.fixture
def there() -> Iterator[Receiver]:
    with receiver() as there:
        yield there


def submit(client: Client, there: Receiver, *events: str) -> Job:
    webhook = {"url": there.url, "events": list(events or ("completed",))}
    return client.submit("echo", "hello", webhook=webhook)


def statuses(client: Client, job: Job) -> list[str]:
    return [delivery.status for delivery in client.deliveries(job.id)]


def leases_end(stack: Stack) -> None:
    """Let the time pass that a delivery is held for a sender that has died."""
    redis = connect(stack.redis.url, 5.0)
    for key in redis.scan_iter("truthgpt:sending:*"):
        to = key.decode().removeprefix("truthgpt:sending:")
        for name in redis.zrange(key, 0, -1):
            redis.zadd(key, {name: 1})
        tenant = to.partition(" ")[0]
        redis.zadd(KEYS("receivers", tenant), {to: 1})
        redis.zadd(KEYS("tellers"), {tenant: 1})
    redis.close()


def replace_rescue(stack: Stack, fault: str | None = None) -> None:
    if "rescue" in stack.processes:
        stack.kill("rescue")
    with pytest.MonkeyPatch.context() as patch:
        if fault:
            patch.setitem(stack._env, "TRUTHGPT_FAULT", fault)
        stack.start("rescue", "rescue")


def killed(stack: Stack) -> None:
    victim = stack.processes["rescue"]
    eventually(lambda: victim.poll() is not None, what="the worker kills itself")
    assert victim.returncode == -signal.SIGKILL


def test_a_job_is_told_of_its_start_and_its_end(client: Client, there: Receiver) -> None:
    job = submit(client, there, "started", "completed")
    eventually(lambda: statuses(client, job) == ["delivered"] * 2)

    told = [Webhook(SECRET).verify(got.body, got.headers) for got in there.got]
    by_type = {message["type"]: message["data"] for message in told}
    assert set(by_type) == {"job.started", "job.completed"} and len(told) == 2
    assert by_type["job.started"]["status"] == "running"
    ended = by_type["job.completed"]
    assert (ended["id"], ended["status"], ended["output"]["text"]) == (job.id, "succeeded", "hello")
    assert ended["urls"]["get"] == f"{client.base_url}/v1/jobs/{job.id}"

    client.replay(job.id)
    eventually(lambda: len(there.got) == 4)
    assert {got.id for got in there.got[2:]} == {got.id for got in there.got[:2]}


def test_a_delivery_worker_killed_after_the_claim_and_after_the_send_loses_nothing(
    stack: Stack, client: Client, there: Receiver
) -> None:
    replace_rescue(stack, "delivery_claimed")
    job = submit(client, there)
    killed(stack)
    assert (statuses(client, job), len(there.got)) == (["pending"], 0)

    replace_rescue(stack, "delivery_sent")
    leases_end(stack)
    killed(stack)
    assert (statuses(client, job), len(there.got)) == (["pending"], 1)

    replace_rescue(stack)
    leases_end(stack)
    eventually(lambda: statuses(client, job) == ["delivered"])
    assert len(there.got) == 2, "at least once"
    assert len({(got.id, got.body) for got in there.got}) == 1


def test_a_drained_delivery_worker_ends_what_it_sends(
    stack: Stack, client: Client, there: Receiver
) -> None:
    there.hanging.set()
    job = submit(client, there)
    eventually(lambda: there.got)
    drained = stack.processes.pop("rescue")
    drained.send_signal(signal.SIGTERM)
    with pytest.raises(subprocess.TimeoutExpired):
        drained.wait(1)
    there.released.set()
    assert drained.wait(20) == 0
    assert statuses(client, job) == ["delivered"] and len(there.got) == 1
