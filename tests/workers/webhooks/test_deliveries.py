"""Deliveries against real receivers: all of them get theirs, whoever hangs, fails or comes back."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from shared.domain.records import Finish, NewJob, new_job_id
from shared.domain.states import JobState
from shared.hooks import Hooks, Observers
from shared.store.jobs import JobStore
from shared.webhooks.endpoints import Endpoints
from shared.webhooks.outbox import Outbox, Subscription
from shared.webhooks.policy import Allowed, UrlPolicy
from shared.webhooks.schedule import Schedule
from shared.webhooks.secrets import WebhookSecrets
from shared.webhooks.signers import signer
from shared.webhooks.signing import Keyring, parse_secrets
from shared.webhooks.urls import parse_target
from tests.conftest import eventually
from tests.receivers import SECRET, Got, Receiver, receiver, status
from workers.webhooks.deliveries import Deliveries, DeliveryPoller
from workers.webhooks.sender import Sender

SERVER = "the server's own secret"
FAST = Schedule(first=0.05, longest=0.2, span=60)


class Told(Hooks):
    def __init__(self) -> None:
        self.outcomes: list[tuple[str, str, int]] = []

    def webhook_delivered(self, model: str, outcome: str, seconds: float, attempt: int) -> None:
        assert seconds >= 0
        self.outcomes.append((model, outcome, attempt))


class Site:
    """One delivery worker in this process: a poller, and threads in Celery's place."""

    def __init__(
        self,
        store: JobStore,
        *,
        schedule: Schedule = FAST,
        secrets: str = SECRET,
        timeout: float = 5.0,
        concurrency: int = 32,
        drain_time: float = 5.0,
    ) -> None:
        self.store = store
        self.outbox = Outbox(store)
        self.told = Told()
        self.deliveries = Deliveries(
            self.outbox,
            Sender(UrlPolicy(Allowed.parse("127.0.0.1")), timeout),
            signer(
                WebhookSecrets(
                    store.redis, store.keys, lambda: SERVER, Keyring(parse_secrets(secrets))
                ),
                Endpoints(store.redis, store.keys, lambda: SERVER),
            ),
            schedule,
            concurrency=concurrency,
            timeout=timeout,
            drain_time=drain_time,
            observers=Observers(self.told),
        )
        self.calls: list[threading.Thread] = []
        self.poller = DeliveryPoller(self.outbox, self.call, 10**6)

    def call(self) -> threading.Thread:
        """What a doorbell does: a thread of the Celery worker runs the task."""
        thread = threading.Thread(target=self.deliveries.deliver, daemon=True)
        self.calls.append(thread)
        thread.start()
        return thread

    def finish_job(self, url: str, tenant: str = "t") -> str:
        webhook = Subscription(parse_target(url), ["completed"], "http://api")
        job = NewJob(new_job_id(), "m", tenant, b"{}", webhook=str(webhook))
        self.store.create(job, max_queued=10**6)
        [claim] = self.store.claim("m", 1, "w").claims
        self.store.write([Finish(claim.id, claim.attempt, JobState.SUCCEEDED, b'{"text":"x"}')])
        return claim.id

    def status(self, job_id: str, tenant: str = "t") -> str:
        [delivery] = self.outbox.of_job(job_id, tenant)
        return delivery.status

    def stop(self) -> None:
        self.poller.stop()
        self.deliveries.stop_claiming()
        for thread in self.calls:
            thread.join(20)
            assert not thread.is_alive()


def verifies(secret: str, got: Got) -> bool:
    try:
        Webhook(secret).verify(got.body, got.headers)
    except WebhookVerificationError:
        return False
    return True


@pytest.fixture
def make_site(store: JobStore) -> Iterator[Callable[..., Site]]:
    with ExitStack() as stack:

        def make(**options: object) -> Site:
            site = Site(store, **options)  # type: ignore[arg-type]
            stack.callback(site.stop)
            site.poller.start()
            return site

        yield make


def test_it_arrives_signed_by_every_secret(make_site: Callable[..., Site]) -> None:
    old = SECRET.replace("YS", "YT")
    with receiver() as there:
        site = make_site(secrets=f"{SECRET},{old}")
        job_id = site.finish_job(there.url)
        eventually(lambda: site.status(job_id) == "delivered")

        [got] = there.got
        for secret in (SECRET, old):
            document = Webhook(secret).verify(got.body, got.headers)
        assert (document["type"], document["data"]["id"]) == ("job.completed", job_id)
        eventually(lambda: site.told.outcomes == [("m", "delivered", 1)])


def test_a_tenants_own_secrets_take_the_place_of_the_servers(
    make_site: Callable[..., Site], store: JobStore
) -> None:
    secrets = WebhookSecrets(store.redis, store.keys, lambda: SERVER, Keyring(()))
    _, first = secrets.rotate("acme", 0)
    _, second = secrets.rotate("acme", 60)
    with receiver() as there:
        site = make_site()
        site.finish_job(there.url, "acme")
        site.finish_job(there.url, "other")
        eventually(lambda: len(there.got) == 2)

        fits = {}
        for got in there.got:
            tenant = site.store.get(json.loads(got.body)["data"]["id"]).fields["tenant"]
            fits[tenant] = [verifies(secret, got) for secret in (first, second, SECRET)]
        assert fits == {"acme": [True, True, False], "other": [False, False, True]}


def test_retries_keep_id_and_body_and_sign_anew(make_site: Callable[..., Site]) -> None:
    with receiver(status(500), status(302, Location="http://127.0.0.1/"), status(204)) as there:
        site = make_site()
        job_id = site.finish_job(there.url)
        eventually(lambda: site.status(job_id) == "delivered")

        assert len(there.got) == 3
        assert len({(got.id, got.body) for got in there.got}) == 1
        for got in there.got:
            Webhook(SECRET).verify(got.body, got.headers)
        expected = [("m", "retry", 1), ("m", "retry", 2), ("m", "delivered", 3)]
        eventually(lambda: site.told.outcomes == expected, what="observers hear of each")


def test_410_is_the_last_word_until_it_is_replayed(make_site: Callable[..., Site]) -> None:
    with receiver(status(410)) as there:
        site = make_site()
        job_id = site.finish_job(there.url)
        eventually(lambda: site.status(job_id) == "dead")
        there.answer(status(200))
        site.outbox.replay(job_id, "t")
        eventually(lambda: site.status(job_id) == "delivered")
        assert len(there.got) == 2 and there.got[0].id == there.got[1].id


def test_retry_after_is_waited_for(make_site: Callable[..., Site]) -> None:
    schedule = Schedule(first=0.01, longest=60, span=600)
    with receiver(status(429, Retry_After="1"), status(200)) as there:
        site = make_site(schedule=schedule)
        job_id = site.finish_job(there.url)
        eventually(lambda: site.status(job_id) == "delivered")
        assert there.got[1].at - there.got[0].at >= 0.95


def test_one_hanging_receiver_of_a_hundred_delays_nobody(make_site: Callable[..., Site]) -> None:
    """The others are done while every send to the hanging one, of which there are many, still hangs."""
    with ExitStack() as stack:
        hanging = stack.enter_context(receiver())
        hanging.hanging.set()
        # One process can bind a hundred ports; one server behind a hundred names would share a lane.
        others = [stack.enter_context(receiver()) for _ in range(99)]
        site = make_site(timeout=60.0, concurrency=16)
        stuck = [site.finish_job(hanging.url) for _ in range(30)]
        eventually(lambda: len(hanging.got) == 4, what="the hanging one has all it may have")
        mine = [site.finish_job(there.url) for there in others]

        eventually(lambda: all(len(there.got) == 1 for there in others))
        eventually(lambda: all(site.status(job_id) == "delivered" for job_id in mine))
        assert {site.status(job_id) for job_id in stuck} == {"pending"}
        assert len(hanging.got) == 4, "all of them still hang"

        hanging.hanging.clear()
        hanging.released.set()
        eventually(lambda: all(site.status(job_id) == "delivered" for job_id in stuck))


def test_one_tenants_slow_receivers_leave_slots_to_the_others(
    make_site: Callable[..., Site],
) -> None:
    with ExitStack() as stack:
        slow = [stack.enter_context(receiver()) for _ in range(12)]
        quick = stack.enter_context(receiver())
        for there in slow:
            there.hanging.set()
        site = make_site(timeout=60.0, concurrency=8)
        for there in slow:
            site.finish_job(there.url, "slow")
        eventually(lambda: sum(len(there.got) for there in slow) == 4, what="half of the slots")

        for _ in range(5):
            job_id = site.finish_job(quick.url, "modest")
            eventually(lambda job_id=job_id: site.status(job_id, "modest") == "delivered")

        assert sum(len(there.got) for there in slow) == 4, "they hang as before"
        for there in slow:
            there.released.set()
        eventually(lambda: sum(len(there.got) for there in slow) == 12)


def test_a_dead_receiver_is_left_alone_once_its_circuit_is_open(
    make_site: Callable[..., Site], store: JobStore
) -> None:
    with receiver(status(500)) as there:
        site = make_site()
        ids = [site.finish_job(there.url) for _ in range(10)]
        key = store.keys("receiver", f"t 127.0.0.1:{there.port}")
        eventually(lambda: store.redis.hget(key, "open_until"))
        eventually(lambda: not any(thread.is_alive() for thread in site.calls))
        seen = len(there.got)
        assert seen <= 8, "five failures, and what was under way beside them"

        there.answer(status(200))
        site.outbox.replay(ids[0], "t")
        eventually(lambda: all(site.status(job_id) == "delivered" for job_id in ids))


def test_sends_are_bounded(make_site: Callable[..., Site]) -> None:
    with ExitStack() as stack:
        slow = [stack.enter_context(receiver()) for _ in range(6)]
        for there in slow:
            there.hanging.set()
        site = make_site(concurrency=3)
        for number, there in enumerate(slow):
            site.finish_job(there.url, f"tenant-{number}")
        eventually(lambda: sum(len(there.got) for there in slow) == 3)
        sending = [t for t in threading.enumerate() if t.name.startswith("send msg_")]
        assert len(sending) == 3
        for there in slow:
            there.released.set()
        eventually(lambda: sum(len(there.got) for there in slow) == 6)


def test_a_stop_lets_what_is_under_way_end(make_site: Callable[..., Site]) -> None:
    with receiver() as there:
        there.hanging.set()
        site = make_site()
        ids = [site.finish_job(there.url) for _ in range(6)]
        eventually(lambda: len(there.got) == 4)
        site.deliveries.stop_claiming()
        assert site.calls[0].is_alive()
        there.released.set()
        eventually(lambda: not any(thread.is_alive() for thread in site.calls))
        assert len(there.got) == 4, "nothing new was begun"
        states = sorted(site.status(job_id) for job_id in ids)
        assert states == ["delivered"] * 4 + ["pending"] * 2


def test_what_outlasts_the_drain_is_given_back(make_site: Callable[..., Site]) -> None:
    with receiver() as there:
        there.hanging.set()
        site = make_site(timeout=30.0, drain_time=0.1)
        job_id = site.finish_job(there.url)
        eventually(lambda: len(there.got) == 1)
        site.poller.stop()
        site.deliveries.stop_claiming()
        eventually(lambda: not any(thread.is_alive() for thread in site.calls))

        there.hanging.clear()
        other = make_site()
        eventually(lambda: other.status(job_id) == "delivered", what="long before the lease ends")
        assert json.loads(there.got[0].body) == json.loads(there.got[1].body)


def test_without_a_secret_nothing_leaves(make_site: Callable[..., Site]) -> None:
    with receiver() as there:
        site = make_site(secrets="")
        job_id = site.finish_job(there.url)
        eventually(lambda: site.told.outcomes)
        assert there.got == []
        [delivery] = site.outbox.of_job(job_id, "t")
        assert (delivery.status, delivery.error) == ("pending", "unsigned")


def test_two_workers_share_the_work(make_site: Callable[..., Site]) -> None:
    with ExitStack() as stack:
        theres: list[Receiver] = [stack.enter_context(receiver()) for _ in range(10)]
        sites = [make_site(), make_site()]
        ids = [sites[0].finish_job(there.url) for there in theres for _ in range(5)]
        eventually(lambda: all(sites[0].status(job_id) == "delivered" for job_id in ids))
        assert [len(there.got) for there in theres] == [5] * 10, "once each, when nobody dies"


def test_a_doorbell_for_nothing_ends(make_site: Callable[..., Site]) -> None:
    site = make_site()
    for _ in range(3):
        thread = site.call()
        eventually(lambda thread=thread: not thread.is_alive())
    assert site.told.outcomes == []


def test_an_endpoint_is_told_signed_by_its_own_secret_until_it_is_deleted(
    make_site: Callable[..., Site],
) -> None:
    site = make_site()
    endpoints = Endpoints(site.store.redis, site.store.keys, lambda: SERVER)
    with receiver() as there:
        name, _, secret = endpoints.create(
            "t", parse_target(there.url), "mine", ["batch.completed"]
        )
        site.outbox.tell("t", "batch_0a", "batch.completed")
        eventually(lambda: bool(there.got), what="the event arrives")
        assert verifies(secret, there.got[0])
        assert not verifies(SECRET, there.got[0])

        there.answer(status(500))
        [waiting] = site.outbox.tell("t", "batch_0b", "batch.completed")
        eventually(lambda: len(there.got) > 1, what="the next event arrives")
        endpoints.delete("t", name)

        def given_up() -> bool:
            found = site.outbox.delivery(waiting, "t")
            return found is not None and (found.status, found.error) == ("dead", "deleted")

        eventually(given_up, what="the event of a deleted endpoint is given up")


def test_a_trial_is_sent_once_whatever_comes_of_it(make_site: Callable[..., Site]) -> None:
    site = make_site()
    endpoints = Endpoints(site.store.redis, site.store.keys, lambda: SERVER)
    with receiver(status(500)) as there:
        name, _, secret = endpoints.create("t", parse_target(there.url), "mine", ["batch.failed"])
        trial = site.outbox.try_out("t", name, "resp_0a", "response.failed")
        assert trial is not None

        def ended() -> bool:
            found = site.outbox.delivery(trial, "t")
            return found is not None and (found.status, found.response_status) == ("dead", 500)

        eventually(ended, what="the trial has ended")
        assert len(there.got) == 1
        assert verifies(secret, there.got[0])
    assert site.outbox.try_out("t", "we_nobody", "resp_0a", "response.failed") is None
