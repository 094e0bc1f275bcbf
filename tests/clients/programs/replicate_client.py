"""Predictions, streams, models, webhooks, refusals with Replicate's Python client: `URL TOKEN` as arguments.

Each check prints its name.
"""

import asyncio
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import httpx
from replicate.client import Client
from replicate.exceptions import ModelError, ReplicateError
from replicate.helpers import FileOutput
from replicate.prediction import Prediction
from replicate.webhook import WebhookValidationError

_, url, token = sys.argv
MODEL, ECHO, ENCODER = "truthgpt/demo-llama", "truthgpt/echo", "truthgpt/all-minilm"
ASK: dict[str, Any] = {"prompt": "The function returns", "max_new_tokens": 12}
sent: list[httpx.Request] = []


class Counting(httpx.HTTPTransport):
    """Below the client's retries: sees each request that leaves."""

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        sent.append(request)
        return super().handle_request(request)


client = Client(api_token=token, base_url=url, transport=Counting())
anonymous = httpx.Client(timeout=30)


def posted(since: int) -> int:
    return sum(request.method == "POST" for request in sent[since:])


def refused(status: int, call: Any) -> ReplicateError:
    before = len(sent)
    try:
        call()
    except ReplicateError as error:
        assert error.status == status and error.title and error.detail, error
        assert len(sent) == before + 1, "sent again"
        return error
    raise AssertionError(f"not refused with {status}")


output = client.run(MODEL, ASK)
assert isinstance(output, list) and all(isinstance(piece, str) for piece in output), output
text = "".join(output)
assert text
print("run: a list of strings")

model = client.models.get(MODEL)
version = model.latest_version
assert version is not None
assert "".join(client.run(f"{MODEL}:{version.id}", ASK)) == text
print("run a version: an iterator over its output")

made = client.predictions.create(version=version, input=ASK)
assert made.status in ("starting", "succeeded") and made.model == MODEL, made
assert made.version == version.id and made.input == ASK, made
made.wait()
assert (made.status, "".join(made.output), made.error) == ("succeeded", text, None), made
assert made.completed_at and made.metrics is not None and made.metrics["output_token_count"] == 12
assert made.logs == "" and made.progress is None
print("create by version, wait")

assert "".join(client.predictions.create(MODEL, ASK, wait=30).output) == text
assert "".join(client.models.predictions.create(MODEL, ASK, wait=30).output) == text
print("create with wait: ended in the answer")

deployment = client.deployments.get(MODEL)
assert deployment.current_release is not None and deployment.current_release.version == version.id
by_deployment = deployment.predictions.create(input=ASK, wait=True)
assert "".join(by_deployment.output) == text
assert MODEL in [f"{one.owner}/{one.name}" for one in client.deployments.list()]
print("deployments")

slow = {"prompt": "a b c", "step_ms": 60_000}
waiting = client.models.predictions.create(ECHO, slow, wait=1)
assert waiting.status == "starting", waiting
print("a wait that ends too early: starting, long before the job's end")

waiting.reload()
while waiting.status == "starting":
    waiting.reload()
assert waiting.status == "processing" and waiting.output is None and waiting.started_at, waiting
print("reload: processing")

waiting.cancel()
waiting.wait()
assert waiting.status == "canceled" and waiting.error is None, waiting
waiting.cancel()
print("cancel, and again")

events = list(client.stream(MODEL, input=ASK))
assert "".join(map(str, events)) == text, events
assert all(event.id for event in events) and events[-1].event.value == "done"
print("stream")

streamed = client.predictions.create(version=version, input=ASK)
assert "".join(map(str, streamed.stream())) == text
assert "".join(map(str, streamed.stream())) == text
print("stream of a prediction, while it runs and after")

assert streamed.urls is not None and all(one.startswith(url) for one in streamed.urls.values())
opened = anonymous.get(streamed.urls["stream"])
assert opened.status_code == 200 and opened.headers["content-type"] == "text/event-stream"
assert anonymous.get(streamed.urls["stream"].partition("?")[0]).status_code == 401
print("urls are absolute, the stream's opens without a token")

links = {"prompt": "https://a.example data:, https://b.example", "step_ms": 1}
assert "".join(map(str, client.stream(ECHO, input=links))) == links["prompt"]
said = client.run(ECHO, links)
assert "".join(said) == links["prompt"] and not any(isinstance(one, FileOutput) for one in said)
print("a text that begins like a URL is no file")

lines = {"prompt": "one\ntwo\n\n three\n", "step_ms": 1}
assert "".join(map(str, client.stream(ECHO, input=lines))) == lines["prompt"]
print("lines and blanks come as they are")

vectors = client.run(ENCODER, {"input": ["one", "two"]})
assert [len(vector) for vector in vectors["embeddings"]] == [384, 384]
print("run: an output that is no text")

chat = client.run(MODEL, {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 4})
assert isinstance(chat, list)
print("a chat, and max_tokens")

page = client.predictions.list()
assert made.id in [one.id for one in page] or page.next
seen, cursor = set(), page.next
while cursor is not None:
    assert cursor.startswith(url)
    following = client.predictions.list(cursor)
    seen |= {one.id for one in following}
    cursor = following.next
assert not seen & {one.id for one in page} and len(page) + len(seen) >= 12
print("list of predictions, page by page")

assert client.predictions.get(made.id).output == made.output
print("get a prediction")

assert {MODEL, ECHO} <= {one.id for one in client.models.list()}
assert model.owner == "truthgpt" and model.name == "demo-llama" and model.run_count == 0
model.reload()
print("models")

assert [one.id for one in model.versions.list()] == [version.id]
found = model.versions.get(version.id)
schemas = found.openapi_schema["components"]["schemas"]
assert (
    schemas["Output"]["x-cog-array-type"] == "iterator"
    and "prompt" in schemas["Input"]["properties"]
)
assert found.created_at.year >= 2024
print("versions, with their schemas")

assert client.accounts.current().username == "default"
print("account")

before = len(sent)
failed = client.models.predictions.create("truthgpt/broken", {"input": 1}, wait=30)
assert failed.status == "failed" and isinstance(failed.error, str) and failed.error, failed
assert posted(before) == 1
before = len(sent)
try:
    client.run("truthgpt/broken", {"input": 1})
    raise AssertionError("no ModelError")
except ModelError as error:
    assert error.prediction.status == "failed"
assert posted(before) == 1
print("a job that fails for good is posted once")

broken = client.models.predictions.create("truthgpt/broken", {"input": 1})
try:
    list(broken.stream())
    raise AssertionError("no error in the stream")
except RuntimeError as error:
    assert str(error), error
print("a failed stream raises")

refused(422, lambda: client.run(MODEL, {**ASK, "temperature": -1}))
refused(422, lambda: client.run(MODEL, {"nothing": 1}))
refused(404, lambda: client.run("truthgpt/nobody", ASK))
refused(404, lambda: client.run("nobody/demo-llama", ASK))
refused(404, lambda: client.predictions.create("0" * 64, ASK))
refused(404, lambda: client.predictions.get("job_" + "0" * 32))
refused(401, lambda: Client("wrong", base_url=url, transport=Counting()).models.list())
print("refusals with title and detail, each asked once")

got: list[tuple[dict[str, str], str]] = []
arrived = threading.Condition()


class Receiver(BaseHTTPRequestHandler):
    """Keeps what is posted."""

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        with arrived:
            got.append((dict(self.headers.items()), body))
            arrived.notify_all()
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


server = HTTPServer(("127.0.0.1", 0), Receiver)
threading.Thread(target=server.serve_forever, daemon=True).start()
HOOK = f"http://127.0.0.1:{server.server_port}/hook"


def received(number: int) -> list[tuple[dict[str, str], str]]:
    with arrived:
        assert arrived.wait_for(lambda: len(got) >= number, 30), f"{len(got)} of {number} came"
        return got[-number:]


told = client.models.predictions.create(
    MODEL, ASK, webhook=HOOK, webhook_events_filter=["completed"]
)
[(headers, body)] = received(1)
secret = client.webhooks.default.secret()
client.webhooks.validate(headers=headers, body=body, secret=secret, tolerance=60)
sent_to = Prediction.parse_raw(body)
assert (sent_to.id, sent_to.status) == (told.id, "succeeded") and "".join(sent_to.output) == text
print("a webhook is the prediction, signed")

try:
    client.webhooks.validate(headers=headers, body=body + " ", secret=secret)
    raise AssertionError("taken")
except WebhookValidationError:
    pass
print("another body is not what was signed")

got.clear()
client.models.predictions.create(
    ECHO, {"prompt": "a b"}, webhook=HOOK, webhook_events_filter=["start", "completed"]
)
statuses = {Prediction.parse_raw(body).status for _, body in received(2)}
assert statuses == {"processing", "succeeded"}, statuses
print("webhooks of the start and of the end")


async def at_once() -> None:
    asynchronous = Client(api_token=token, base_url=url)
    one, other = await asyncio.gather(
        asynchronous.async_run(MODEL, ASK), asynchronous.async_run(MODEL, ASK)
    )
    assert "".join(one) == "".join(other) == text
    stream = await asynchronous.async_stream(MODEL, input=ASK)
    assert "".join([str(event) async for event in stream]) == text


asyncio.run(at_once())
print("asynchronous run and stream")
