"""Files and batches with OpenAI's client: `URL TOKEN` as arguments.

Answers are checked against the client's own types (`_strict_response_validation`). A check prints its name.
"""

import io
import json
import sys
import time
from collections.abc import Callable
from typing import Any

import openai
from openai import OpenAI
from openai.types.responses import Response

_, url, token = sys.argv
client = OpenAI(base_url=f"{url}/v1", api_key=token, _strict_response_validation=True)
ENDED = ("completed", "failed", "expired", "cancelled")


def refused(kind: type[openai.APIStatusError], call: Callable[[], object]) -> openai.APIStatusError:
    try:
        call()
    except kind as error:
        return error
    raise AssertionError("it was answered")


def jsonl(*lines: dict[str, Any]) -> bytes:
    return b"".join(json.dumps(line).encode() + b"\n" for line in lines)


def line(number: int, url: str = "/v1/embeddings", **body: Any) -> dict[str, Any]:
    asked = {"model": "all-minilm", "input": f"text {number}", **body}
    return {"custom_id": f"line {number}", "method": "POST", "url": url, "body": asked}


def upload(content: bytes, **more: Any) -> Any:
    return client.files.create(file=("in.jsonl", content), purpose="batch", **more)


def create(file: Any, endpoint: Any = "/v1/embeddings", **more: Any) -> Any:
    return client.batches.create(
        input_file_id=file.id, endpoint=endpoint, completion_window="24h", **more
    )


def ended(batch: Any) -> Any:
    deadline = time.monotonic() + 200
    while batch.status not in ENDED:
        assert time.monotonic() < deadline, batch
        time.sleep(0.2)
        batch = client.batches.retrieve(batch.id)
    return batch


def answers(file_id: str) -> dict[str, Any]:
    lines = [json.loads(one) for one in client.files.content(file_id).text.splitlines()]
    found = {one["custom_id"]: one for one in lines}
    assert len(found) == len(lines)
    return found


content = jsonl(*(line(number) for number in range(30)))
file = upload(content)
assert (file.bytes, file.filename, file.purpose) == (len(content), "in.jsonl", "batch")
print("files.create")
assert file.status == "processed"
assert client.files.wait_for_processing(file.id).id == file.id
print("files.wait_for_processing")
assert client.files.retrieve(file.id) == file
print("files.retrieve")
assert client.files.content(file.id).read() == content
print("files.content")
with client.files.with_streaming_response.content(file.id) as told:
    assert b"".join(told.iter_bytes()) == content
print("files.content in pieces")
soon = upload(b"x", expires_after={"anchor": "created_at", "seconds": 3600})
assert soon.expires_at == soon.created_at + 3600
print("files.create with expires_after")
large = client.files.create(file=io.BytesIO(b"x" * 3_000_000), purpose="user_data")
assert large.bytes == 3_000_000
print("files.create of more than a body may have")
assert {file.id, soon.id} <= {one.id for one in client.files.list(purpose="batch")}
assert large.id not in {one.id for one in client.files.list(purpose="batch")}
print("files.list by purpose")
paged = [one.id for one in client.files.list(limit=1)]
assert len(paged) == len(set(paged)) >= 3
assert paged[:3] == [large.id, soon.id, file.id]
print("files.list in pages")
assert [one.id for one in client.files.list(limit=1, order="asc")] == paged[::-1]
print("files.list in the other order")
assert client.files.delete(large.id).deleted is True
refused(openai.NotFoundError, lambda: client.files.retrieve(large.id))
refused(openai.NotFoundError, lambda: client.files.content(large.id))
print("files.delete")
refused(openai.BadRequestError, lambda: client.files.create(file=b"x", purpose="nothing"))  # type: ignore[arg-type]
print("files.create refused")

batch = create(file, metadata={"of": "tonight"})
assert batch.object == "batch"
assert batch.expires_at == batch.created_at + 24 * 3600
assert batch.metadata == {"of": "tonight"}
print("batches.create")
refused(openai.BadRequestError, lambda: client.files.delete(file.id))
print("files.delete of an input in use")
done = ended(batch)
assert done.status == "completed", done
assert done.request_counts.model_dump() == {"total": 30, "completed": 30, "failed": 0}
assert done.in_progress_at <= done.finalizing_at <= done.completed_at
print("batches.retrieve until completed")
told = answers(done.output_file_id)
assert set(told) == {f"line {number}" for number in range(30)}
print("every custom_id once")
assert {one["response"]["status_code"] for one in told.values()} == {200}
body = told["line 7"]["response"]["body"]
alone = client.embeddings.create(model="all-minilm", input="text 7", encoding_format="float")
pairs = zip(body["data"][0]["embedding"], alone.data[0].embedding, strict=True)
assert max(abs(one - other) for one, other in pairs) < 1e-5
print("answers are those of the route")
assert client.files.retrieve(done.output_file_id).purpose == "batch_output"
print("the output is a file")

mixed = ended(create(upload(jsonl(line(0), line(1, dimensions=10**5), line(2, input=[])))))
assert mixed.request_counts.model_dump() == {"total": 3, "completed": 1, "failed": 2}
errors = answers(mixed.error_file_id)
assert {one["response"]["status_code"] for one in errors.values()} == {400}
assert all(one["response"]["body"]["error"]["message"] for one in errors.values())
print("requests that fail are in the error file")
chat = {"messages": [{"role": "user", "content": "The function"}], "max_tokens": 4}
asked = line(0, "/v1/chat/completions", **chat, model="demo-llama")
del asked["body"]["input"]
chats = ended(create(upload(jsonl(asked)), "/v1/chat/completions"))
said = answers(chats.output_file_id)["line 0"]["response"]["body"]
assert said["choices"][0]["message"]["role"] == "assistant"
assert said["usage"]["completion_tokens"] <= 4
print("chats")
asked = {
    **line(0, "/v1/completions"),
    "body": {"model": "demo-llama", "prompt": "def", "max_tokens": 3},
}
texts = ended(create(upload(jsonl(asked)), "/v1/completions"))
assert answers(texts.output_file_id)["line 0"]["response"]["body"]["object"] == "text_completion"
print("completions")

asked["url"] = "/v1/responses"
asked["body"] = {"model": "demo-llama", "input": "def", "max_output_tokens": 3}
made = ended(create(upload(jsonl(asked)), "/v1/responses"))
said = Response.model_validate(answers(made.output_file_id)["line 0"]["response"]["body"])
assert said.output_text and said.id.startswith("resp_"), said
print("responses")

bad = ended(create(upload(jsonl(line(0), line(0)) + b"{\n")))
assert bad.status == "failed"
faults = [(one.code, one.line) for one in bad.errors.data]
assert faults == [("duplicate_custom_id", 2), ("invalid_json_line", 3)]
print("an input that is none")
many = create(upload(jsonl(*(line(number) for number in range(3000)))))
assert client.batches.cancel(many.id).status == "cancelling"
gone = ended(many)
assert gone.status == "cancelled"
assert gone.cancelling_at <= gone.cancelled_at
print("batches.cancel")
counts = gone.request_counts
assert counts.completed + counts.failed == counts.total
if gone.error_file_id:
    assert {one["error"]["code"] for one in answers(gone.error_file_id).values()} == {
        "batch_cancelled"
    }
print("what was cancelled is told")
assert refused(openai.BadRequestError, lambda: client.batches.cancel(done.id)).code == "batch_ended"
print("batches.cancel of one that has ended")
listed = [one.id for one in client.batches.list(limit=2)]
assert len(listed) == len(set(listed)) >= 6
assert listed[0] == many.id and listed[-1] == batch.id
print("batches.list in pages")
refused(openai.NotFoundError, lambda: client.batches.retrieve("batch_" + "0" * 32))
refused(openai.NotFoundError, lambda: create(soon.model_copy(update={"id": "file-" + "0" * 32})))
print("what there is not")
