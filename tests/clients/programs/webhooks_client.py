"""Webhook endpoints with OpenAI's client; messages checked by it, standardwebhooks and svix.

`URL TOKEN SECRET` are the arguments, the last one being the server's `WEBHOOK_HMAC_SECRET`. Each check prints
its name.
"""

import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import httpx2
import openai
import standardwebhooks
import svix
from openai import OpenAI

_, url, token, server_secret = sys.argv
client = OpenAI(base_url=f"{url}/v1", api_key=token, _strict_response_validation=True)
got: list[tuple[dict[str, str], str]] = []
answers: list[int] = []
arrived = threading.Condition()


class Receiver(BaseHTTPRequestHandler):
    """Keeps what is posted."""

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        with arrived:
            got.append((dict(self.headers.items()), body))
            arrived.notify_all()
        self.send_response(answers.pop(0) if answers else 204)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


server = HTTPServer(("127.0.0.1", 0), Receiver)
threading.Thread(target=server.serve_forever, daemon=True).start()
HOOK = f"http://127.0.0.1:{server.server_port}/hook"


def received() -> tuple[dict[str, str], str]:
    with arrived:
        assert arrived.wait_for(lambda: got, 30), "nothing came"
        return got.pop(0)


def refused(kind: type[openai.APIStatusError], call: Any) -> openai.APIStatusError:
    try:
        call()
    except kind as error:
        return error
    raise AssertionError(f"not refused with {kind.__name__}")


made = client.webhooks.create(
    url=HOOK, name="mine", event_types=["response.completed", "batch.completed"]
)
assert made.signing_secret.startswith("whsec_") and made.object == "webhook_endpoint", made
assert made.signing_secret_hint and made.updated_at == made.created_at
print("create an endpoint")

assert client.webhooks.retrieve(made.id).url == HOOK
other = client.webhooks.create(url=HOOK, name="other", event_types=["batch.failed"])
assert [one.id for one in client.webhooks.list(limit=1)] == [other.id, made.id]
print("retrieve and list endpoints, page by page")

changed = client.webhooks.update(made.id, name="renamed")
assert (changed.name, changed.event_types) == ("renamed", made.event_types)
print("update an endpoint")

assert "response.completed" in client.webhooks.event_types.list().data
print("types of events")

tested = client.webhooks.test(made.id, event_type="response.completed")
assert (tested.status_code, tested.success) == (204, True), tested
headers, body = received()
event = client.webhooks.unwrap(body, headers, secret=made.signing_secret)
assert event.type == "response.completed" and event.data.id.startswith("resp_"), event
assert event.object == "event" and event.id.startswith("evt_")
print("test an endpoint: unwrapped by OpenAI's client")

assert standardwebhooks.Webhook(made.signing_secret).verify(body, headers)["type"] == event.type
print("an event, verified by standardwebhooks")

svix.Webhook(made.signing_secret).verify(body, headers)
try:
    svix.Webhook(made.signing_secret).verify(body + " ", headers)
    raise AssertionError("taken")
except svix.WebhookVerificationError:
    pass
print("an event, verified by svix")

try:
    client.webhooks.unwrap(body, headers, secret=other.signing_secret)
    raise AssertionError("taken")
except openai.InvalidWebhookSignatureError:
    pass
print("another endpoint's secret fits nothing")

answers.append(500)
assert client.webhooks.test(made.id, event_type="batch.completed").status_code == 500
received()
print("a test that the endpoint refuses")

rotated = client.webhooks.rotate_secret(made.id, keep_old_secret_active_for_24_hours=True)
assert rotated.signing_secret != made.signing_secret
client.webhooks.test(made.id, event_type="batch.completed")
headers, body = received()
for secret in (made.signing_secret, rotated.signing_secret):
    assert client.webhooks.unwrap(body, headers, secret=secret).type == "batch.completed"
print("rotate a secret, the old one signs on")

last = client.webhooks.rotate_secret(made.id)
client.webhooks.test(made.id, event_type="batch.completed")
headers, body = received()
client.webhooks.unwrap(body, headers, secret=last.signing_secret)
try:
    client.webhooks.unwrap(body, headers, secret=rotated.signing_secret)
    raise AssertionError("taken")
except openai.InvalidWebhookSignatureError:
    pass
print("rotate a secret, the old one ends")

refused(
    openai.BadRequestError,
    lambda: client.webhooks.create(
        url="https://192.168.0.1/hook", name="x", event_types=["batch.failed"]
    ),
)
refused(
    openai.BadRequestError,
    lambda: client.webhooks.create(url=HOOK, name="x", event_types=["video.completed"]),
)
print("urls inside and events of other APIs are refused")

assert client.webhooks.delete(made.id).deleted
assert client.webhooks.delete(other.id).object == "webhook_endpoint.deleted"
refused(openai.NotFoundError, lambda: client.webhooks.retrieve(made.id))
print("delete endpoints")

native = httpx2.post(
    f"{url}/v1/jobs",
    headers={"Authorization": f"Bearer {token}"},
    json={
        "model": "echo",
        "prompt": "hi",
        "webhook": {"url": HOOK, "events": ["completed"]},
    },
)
assert native.status_code == 202, native.text
headers, body = received()
told = standardwebhooks.Webhook(server_secret).verify(body, headers)
assert told["data"]["id"] == native.json()["id"]
svix.Webhook(server_secret).verify(body, headers)
print("a native webhook, verified by both libraries")
