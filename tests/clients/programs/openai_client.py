"""Chats, streams, completions, embeddings and refusals with OpenAI's client: `URL TOKEN` as arguments.

Answers are checked against the client's own types (`_strict_response_validation`). A check prints its name.
"""

import base64
import json
import struct
import sys
from collections.abc import Callable
from typing import Any

import httpx2
import openai
from langchain_openai import ChatOpenAI, OpenAIEmbeddings
from openai import OpenAI
from openai.types import batch_create_params as batch_params
from openai.types import completion_create_params as completion_params
from openai.types import embedding_create_params as embedding_params
from openai.types.chat import completion_create_params as chat_params
from openai.types.responses import response_create_params as response_params

_, url, token = sys.argv
MODEL, ENCODER = "demo-llama", "all-minilm"
ASK = [{"role": "user", "content": "The function returns"}]
SHORT: dict[str, Any] = {
    "model": MODEL,
    "messages": ASK,
    "max_completion_tokens": 12,
    "temperature": 0,
}
sent: list[httpx2.Request] = []
client = OpenAI(
    base_url=f"{url}/v1",
    api_key=token,
    _strict_response_validation=True,
    http_client=httpx2.Client(timeout=60, event_hooks={"request": [sent.append]}),
)
chats = client.chat.completions


def refused(kind: type[openai.APIStatusError], call: Callable[[], object]) -> openai.APIStatusError:
    """The error that a call raises, which was sent once."""
    before = len(sent)
    try:
        call()
    except kind as error:
        assert len(sent) == before + 1, f"sent {len(sent) - before} times"
        return error
    raise AssertionError(f"not refused with {kind.__name__}")


said = chats.create(**SHORT)
assert said.id.startswith("chatcmpl-"), said
assert said.choices[0].message.content, said
assert said.choices[0].finish_reason in ("stop", "length"), said
assert said.usage is not None and said.usage.completion_tokens <= 12, said
text = said.choices[0].message.content
print("chat")

stream = chats.create(**SHORT, stream=True, stream_options={"include_usage": True})
chunks = list(stream)
told = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
assert told == text, (told, text)
assert len({chunk.id for chunk in chunks}) == 1
assert chunks[0].choices[0].delta.role == "assistant"
assert [c.usage for c in chunks[:-1]] == [None] * (len(chunks) - 1)
assert chunks[-1].usage is not None and chunks[-1].choices == []
assert chunks[-2].choices[0].finish_reason == said.choices[0].finish_reason
print("chat stream with usage")

with client.chat.completions.stream(**SHORT) as events:
    for _ in events:
        pass
    final = events.current_completion_snapshot
assert final.choices[0].message.content == text, final
print("chat stream, put together by the client")

parts = [{"role": "user", "content": [{"type": "text", "text": "The function returns"}]}]
assert chats.create(**{**SHORT, "messages": parts}).choices[0].message.content == text
print("content in parts")

seeded = {**SHORT, "temperature": 1, "seed": 7}
one, other = (chats.create(**seeded).choices[0].message.content for _ in range(2))
assert one == other, (one, other)
print("a seed repeats a text")

several = chats.create(**{**seeded, "n": 3})
assert [choice.index for choice in several.choices] == [0, 1, 2]
assert several.choices[0].message.content == one, several
told_of: dict[int, str] = {}
for chunk in chats.create(**{**seeded, "n": 3}, stream=True):
    for choice in chunk.choices:
        told_of[choice.index] = told_of.get(choice.index, "") + (choice.delta.content or "")
assert told_of == {c.index: c.message.content for c in several.choices}, (told_of, several)
print("three choices, at once and streamed")

scored = chats.create(**SHORT, logprobs=True, top_logprobs=2).choices[0].logprobs
assert scored is not None and scored.content, scored
assert len(scored.content[0].top_logprobs) == 2
assert bytes(scored.content[0].bytes or ()).decode() == scored.content[0].token
rows = [
    row
    for chunk in chats.create(**SHORT, logprobs=True, top_logprobs=2, stream=True)
    for choice in chunk.choices
    for row in (choice.logprobs.content or () if choice.logprobs else ())
]
assert [row.token for row in rows] == [row.token for row in scored.content], rows
print("log-probabilities, at once and streamed")

biased = chats.create(**SHORT, logit_bias={"11": -100}, stop=["zzz"], user="u", store=False)
assert biased.choices[0].message.content is not None
print("bias, stop strings, members that mean nothing here")

schema = {
    "type": "object",
    "properties": {"a": {"enum": ["x", "y"]}},
    "required": ["a"],
    "additionalProperties": False,
}
held = chats.create(
    **{**SHORT, "max_completion_tokens": 64},
    response_format={
        "type": "json_schema",
        "json_schema": {"name": "s", "schema": schema, "strict": True},
    },
)
assert held.choices[0].message.content in ('{"a":"x"}', '{"a":"y"}'), held
print("JSON by a schema")

properties = {
    "city": {"enum": ["Oslo", "São Paulo"]},
    "days": {"type": "integer", "maximum": 9, "minimum": 1},
}
weather = {
    "type": "object",
    "properties": properties,
    "required": ["city", "days"],
    "additionalProperties": False,
}
calling: dict[str, Any] = {
    "model": MODEL,
    "messages": ASK,
    "seed": 5,
    "tools": [
        {"type": "function", "function": {"name": name, "strict": True, "parameters": weather}}
        for name in ("weather", "forecast")
    ],
    "tool_choice": {"type": "function", "function": {"name": "weather"}},
}
whole = chats.create(**calling).choices[0]
assert whole.finish_reason == "tool_calls", whole
[call] = whole.message.tool_calls or []
assert call.function.name == "weather" and whole.message.content is None, whole
assert json.loads(call.function.arguments)["city"] in properties["city"]["enum"], call
print("a call of a named tool")

deltas = [
    delta
    for chunk in chats.create(**calling, stream=True)
    for delta in chunk.choices[0].delta.tool_calls or ()
]
assert [(d.id, d.type, d.function.name) for d in deltas if d.function] == [
    (call.id, "function", "weather"),
    *[(None, None, None)] * (len(deltas) - 1),
]
pieces = [d.function.arguments for d in deltas if d.function]
assert "".join(pieces) == call.function.arguments, pieces
print("its arguments in pieces")

both: dict[str, Any] = {
    **calling,
    "tool_choice": "required",
    "parallel_tool_calls": False,
    "n": 2,
    "seed": 8,
}
with client.chat.completions.stream(**both) as events:
    done_calls = [event for event in events if event.type == "tool_calls.function.arguments.done"]
    final = events.get_final_completion()
assert [choice.index for choice in final.choices] == [0, 1], final
for choice in final.choices:
    assert choice.message.tool_calls, choice
    for made in choice.message.tool_calls:
        assert made.function.name in ("weather", "forecast")
        assert made.function.parsed_arguments["days"] in range(1, 10), made
        assert any(event.arguments == made.function.arguments for event in done_calls)
again = [choice.message for choice in chats.create(**both).choices]
assert [[c.id for c in m.tool_calls or ()] for m in again] == [
    [c.id for c in choice.message.tool_calls or ()] for choice in final.choices
]
print("calls of two choices, put together by the client")

answered = [*ASK, whole.message.model_dump(exclude_none=True)]
answered.append({"role": "tool", "tool_call_id": call.id, "content": "Rain."})
assert (
    chats.create(
        **{**calling, "messages": answered, "tool_choice": "none", "max_completion_tokens": 12}
    )
    .choices[0]
    .message
)
print("a tool's answer")

done = client.completions.create(
    model=MODEL, prompt="The function", max_tokens=8, temperature=0, logprobs=1
)
assert done.choices[0].text and done.choices[0].logprobs is not None, done
# The client's types want a reason in every chunk of a completion, and floats before it has decoded base64.
lenient = OpenAI(base_url=f"{url}/v1", api_key=token)
streamed = lenient.completions.create(
    model=MODEL, prompt="The function", max_tokens=8, temperature=0, stream=True
)
assert "".join(c.choices[0].text for c in streamed) == done.choices[0].text
print("completion, at once and streamed")

floats = client.embeddings.create(model=ENCODER, input=["one", "two"], encoding_format="float")
packed = lenient.embeddings.create(model=ENCODER, input=["one", "two"])
assert [len(one.embedding) for one in floats.data] == [384, 384]
assert (
    max(abs(a - b) for a, b in zip(floats.data[1].embedding, packed.data[1].embedding, strict=True))
    < 1e-6
)
raw = lenient.embeddings.with_raw_response.create(
    model=ENCODER, input="one", encoding_format="base64"
)
vector = raw.http_response.json()["data"][0]["embedding"]
assert len(struct.unpack("<384f", base64.b64decode(vector))) == 384
# More than one job holds, as LangChain sends them, and a text that is longer than the model takes.
many = lenient.embeddings.create(
    model=ENCODER, input=[*["one"] * 599, "two " * 900], dimensions=8, extra_body={"truncate": True}
)
assert [one.index for one in many.data] == list(range(600)), many.usage
first, last, cut = (many.data[place].embedding for place in (0, 598, 599))
assert max(abs(a - b) for a, b in zip(first, last, strict=True)) < 1e-5
assert max(abs(a - b) for a, b in zip(first, cut, strict=True)) > 1e-2
print("embeddings, in floats and in base64")

published = httpx2.get(f"{url}/openapi.json").json()["components"]["schemas"]
for members, ours in (
    (chat_params.CompletionCreateParamsStreaming, "ChatRequest"),
    (completion_params.CompletionCreateParamsStreaming, "CompletionRequest"),
    (embedding_params.EmbeddingCreateParams, "EmbeddingRequest"),
    (response_params.ResponseCreateParamsStreaming, "ResponseRequest"),
    (batch_params.BatchCreateParams, "BatchRequest"),
):
    documented = members.__required_keys__ | members.__optional_keys__
    assert documented <= set(published[ours]["properties"]), documented - set(
        published[ours]["properties"]
    )
print("each member that the client documents is taken, or refused by its name")

assert {model.id for model in client.models.list()} >= {MODEL, ENCODER}
assert client.models.retrieve(MODEL).owned_by == "truthgpt"
print("models")

wrong = refused(
    openai.BadRequestError, lambda: chats.create(**{**SHORT, "max_completion_tokens": 10**6})
)
assert wrong.code == "invalid_request" and "max_new_tokens" in str(wrong), wrong
long = refused(
    openai.BadRequestError,
    lambda: chats.create(**{**SHORT, "messages": [{"role": "user", "content": "word " * 9000}]}),
)
assert long.code == "context_length_exceeded" and "prompt is too long" in str(long).lower(), long
unknown = refused(
    openai.BadRequestError, lambda: chats.create(**SHORT, extra_body={"temprature": 1})
)
assert unknown.param == "temprature", unknown
picture = [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:,"}}]}]
refused(openai.BadRequestError, lambda: chats.create(**{**SHORT, "messages": picture}))
refused(openai.NotFoundError, lambda: chats.create(**{**SHORT, "model": "nobody"}))
refused(openai.BadRequestError, lambda: client.embeddings.create(model=ENCODER, input=[1, 2, 3]))
stranger = client.with_options(api_key="not-a-key")
refused(openai.AuthenticationError, lambda: stranger.models.list())
print("refusals, each asked once")

chat = ChatOpenAI(model=MODEL, base_url=f"{url}/v1", api_key=token, temperature=0, max_tokens=12)
assert chat.invoke("The function returns").content == text
caller = ChatOpenAI(model=MODEL, base_url=f"{url}/v1", api_key=token, seed=5)
bound = caller.bind_tools(calling["tools"], tool_choice="weather")
[langchain_call] = bound.invoke("The function returns").tool_calls
assert langchain_call["args"] == json.loads(call.function.arguments), langchain_call
gathered = None
for piece in bound.stream("The function returns"):
    gathered = piece if gathered is None else gathered + piece
assert gathered is not None and gathered.tool_calls == [langchain_call], gathered
assert "".join(chunk.content for chunk in chat.stream("The function returns")) == text
vectors = OpenAIEmbeddings(
    model=ENCODER, base_url=f"{url}/v1", api_key=token, check_embedding_ctx_length=False
)
assert len(vectors.embed_query("one")) == 384
print("LangChain")
