"""Endpoints of tenants on a real Redis: kept, bounded, changed, signed for, and told of what they ask for."""

import base64
import json

import pytest

from shared.domain.errors import ConfigError
from shared.domain.records import Finish, NewJob, new_job_id
from shared.domain.states import JobState
from shared.store.jobs import JobStore
from shared.webhooks.endpoints import EVENTS, MOST, EndpointNotFound, Endpoints, TooManyEndpoints
from shared.webhooks.outbox import BacklogFull, Outbox
from shared.webhooks.signing import Keyring, parse_secrets
from shared.webhooks.urls import parse_target

TARGET = parse_target("https://receiver.example/hook")
SERVER = "the server's own secret"
OUTPUT = b'{"text":"a","finish_reason":"stop"}'
CUT = b'{"text":"a","finish_reason":"length"}'


@pytest.fixture
def endpoints(store: JobStore) -> Endpoints:
    return Endpoints(store.redis, store.keys, lambda: SERVER)


@pytest.fixture
def outbox(store: JobStore) -> Outbox:
    return Outbox(store)


def made(endpoints: Endpoints, *events: str, tenant: str = "t") -> str:
    return endpoints.create(tenant, TARGET, "mine", events or EVENTS)[0]


def signed(keyring: Keyring | None) -> str:
    assert keyring is not None
    return keyring.headers("msg_1", 1_700_000_000, b"{}")["webhook-signature"]


def test_an_endpoint_is_kept_and_forgotten(endpoints: Endpoints, store: JobStore) -> None:
    first, second = made(endpoints, "batch.completed"), made(endpoints)

    assert list(endpoints.all("t")) == [second, first]
    assert endpoints.get("t", first).events == ("batch.completed",)
    assert endpoints.get("t", first).url == TARGET.url
    assert store.redis.ttl(store.keys("endpoints", "t")) > 300 * 86400
    with pytest.raises(EndpointNotFound):
        endpoints.get("u", first)
    endpoints.delete("t", first)
    with pytest.raises(EndpointNotFound):
        endpoints.delete("t", first)
    assert list(endpoints.all("t")) == [second]


def test_a_tenant_has_so_many(endpoints: Endpoints) -> None:
    for _ in range(MOST):
        made(endpoints)

    with pytest.raises(TooManyEndpoints):
        made(endpoints)
    made(endpoints, tenant="u")


def test_a_change_changes_what_it_names(endpoints: Endpoints) -> None:
    name = made(endpoints)
    before = endpoints.get("t", name)

    assert endpoints.update("t", name) == before
    changed = endpoints.update("t", name, name="other", events=("batch.failed",))

    assert endpoints.get("t", name) == changed
    assert (changed.name, changed.events, changed.url) == ("other", ("batch.failed",), TARGET.url)
    assert changed.updated > before.updated
    with pytest.raises(EndpointNotFound):
        endpoints.update("u", name, name="theirs")


def test_its_secret_signs_and_is_not_in_redis(endpoints: Endpoints, store: JobStore) -> None:
    name, _, text = endpoints.create("t", TARGET, "mine", EVENTS)
    (key,) = parse_secrets(text)

    assert text.startswith("whsec_") and base64.b64decode(text[6:]) == key
    assert signed(endpoints.keyring("t", name)) == signed(Keyring([key]))
    assert text[6:].encode() not in b"".join(store.redis.hvals(store.keys("endpoints", "t")))
    assert endpoints.keyring("t", "we_" + "0" * 32) is None
    other = endpoints.create("t", TARGET, "mine", EVENTS)[2]
    assert other != text
    hint = endpoints.hint("t", name, endpoints.get("t", name))
    assert hint == f"whsec_…{text[-5:]}"


@pytest.mark.parametrize(("overlap", "signatures"), [(0.0, 1), (3600.0, 2)])
def test_a_rotation_ends_the_old_secret_now_or_later(
    endpoints: Endpoints, overlap: float, signatures: int
) -> None:
    name, _, old = endpoints.create("t", TARGET, "mine", EVENTS)

    _, new = endpoints.rotate("t", name, overlap)

    assert new != old
    found = signed(endpoints.keyring("t", name)).split()
    assert len(found) == signatures
    assert found[0] == signed(Keyring(parse_secrets(new)))
    for _ in range(12):
        endpoints.rotate("t", name, 3600.0)
    assert len(signed(endpoints.keyring("t", name)).split()) <= 8


def test_what_cannot_be_derived_here_signs_nothing(endpoints: Endpoints, store: JobStore) -> None:
    def none() -> str:
        raise ConfigError("no secret")

    name = made(endpoints)

    assert endpoints.keyring("t", name) is not None
    assert not Endpoints(store.redis, store.keys, none).keyring("t", name)
    assert not Endpoints(store.redis, store.keys, lambda: "another").keyring("t", name)
    assert (
        Endpoints(store.redis, store.keys, none).hint("t", name, endpoints.get("t", name)) is None
    )


# -- what they are told


def response(store: JobStore, tenant: str = "t", **fields: object) -> str:
    job = NewJob(new_job_id(), "m", tenant, b"{}", told_as="response", **fields)  # type: ignore[arg-type]
    return store.create(job, max_queued=10**6).id


def ended(store: JobStore, state: JobState = JobState.SUCCEEDED, output: bytes = OUTPUT) -> str:
    job_id = response(store)
    [claim] = store.claim("m", 1, "w").claims
    store.write([Finish(claim.id, claim.attempt, state, output)])
    return job_id


def told(outbox: Outbox) -> list[tuple[str, dict[str, object]]]:
    return [(message.endpoint, json.loads(message.body)) for message in outbox.claim(32, 30.0)]


@pytest.mark.parametrize(
    ("state", "output", "event"),
    [
        (JobState.SUCCEEDED, OUTPUT, "response.completed"),
        (JobState.SUCCEEDED, CUT, "response.incomplete"),
        (
            JobState.SUCCEEDED,
            b'{"text":"\\"finish_reason\\":\\"length\\"","finish_reason":"stop"}',
            "response.completed",
        ),
        (JobState.FAILED, b"", "response.failed"),
        (JobState.CANCELED, b"", "response.cancelled"),
        (JobState.EXPIRED, b"", "response.failed"),
    ],
)
def test_the_end_of_a_response_is_told(
    endpoints: Endpoints,
    outbox: Outbox,
    store: JobStore,
    state: JobState,
    output: bytes,
    event: str,
) -> None:
    name = made(endpoints)

    job_id = ended(store, state, output)

    [(endpoint, body)] = told(outbox)
    assert endpoint == name
    created = body.pop("created_at")
    assert isinstance(created, int)
    hexadecimal = job_id.removeprefix("job_")
    assert body == {
        "id": f"evt_{hexadecimal}",
        "object": "event",
        "type": event,
        "data": {"id": f"resp_{hexadecimal}"},
    }
    [delivery] = outbox.of_job(job_id, "t")
    assert (delivery.type, delivery.status) == (event, "pending")


def test_one_that_waits_and_is_canceled_is_told(
    endpoints: Endpoints, outbox: Outbox, store: JobStore
) -> None:
    made(endpoints)
    store.cancel(response(store), "t")

    assert [body["type"] for _, body in told(outbox)] == ["response.cancelled"]


def test_each_endpoint_is_told_what_it_asks_for(
    endpoints: Endpoints, outbox: Outbox, store: JobStore
) -> None:
    wanting = {made(endpoints), made(endpoints, "response.completed")}
    made(endpoints, "response.failed")
    made(endpoints, tenant="u")

    ended(store)

    assert {endpoint for endpoint, _ in told(outbox)} == wanting


def test_a_job_that_is_no_response_is_told_nobody(
    endpoints: Endpoints, outbox: Outbox, store: JobStore
) -> None:
    made(endpoints)
    store.create(NewJob(new_job_id(), "m", "t", b"{}"), max_queued=9)
    [claim] = store.claim("m", 1, "w").claims
    store.write([Finish(claim.id, claim.attempt, JobState.SUCCEEDED, OUTPUT)])

    assert told(outbox) == []


def test_the_event_of_a_batch_is_told_once(endpoints: Endpoints, outbox: Outbox) -> None:
    name = made(endpoints, "batch.completed")

    first = outbox.tell("t", "batch_0a1b", "batch.completed")
    again = outbox.tell("t", "batch_0a1b", "batch.completed")

    assert first == again == [f"msg_0a1b_{name}"]
    assert outbox.tell("t", "batch_0a1c", "batch.failed") == []
    [(_, body)] = told(outbox)
    assert body["type"] == "batch.completed" and body["data"] == {"id": "batch_0a1b"}


def test_events_for_endpoints_are_bounded_and_counted_as_all_webhooks(
    endpoints: Endpoints, outbox: Outbox, store: JobStore
) -> None:
    made(endpoints)
    held = store.held_bytes("t")

    ended(store)

    assert store.held_bytes("t") > held
    outbox.admit_events("t", 3)
    outbox.admit_events("u", 1)
    with pytest.raises(BacklogFull):
        outbox.admit_events("t", 2)
