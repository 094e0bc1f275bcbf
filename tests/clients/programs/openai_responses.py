"""Responses with OpenAI's client and LangChain: `URL TOKEN` as arguments.

Answers are checked against the client's own types (`_strict_response_validation`). A check prints its name.
"""

import sys
import time
from collections.abc import Callable
from typing import Any

import httpx2
import openai
from langchain_core.messages import HumanMessage, ToolMessage
from langchain_openai import ChatOpenAI
from openai import OpenAI
from pydantic import BaseModel

_, url, token = sys.argv
MODEL = "demo-llama"
ASK: dict[str, Any] = {
    "model": MODEL,
    "input": "The function returns",
    "max_output_tokens": 12,
    "temperature": 0,
}
LONG: dict[str, Any] = {**ASK, "max_output_tokens": 300, "extra_body": {"ignore_eos": True}}
TOOL: dict[str, Any] = {
    "type": "function",
    "name": "look_up",
    "description": "Looks a word up.",
    "strict": True,
    "parameters": {
        "type": "object",
        "properties": {"word": {"enum": ["one", "two"]}},
        "required": ["word"],
        "additionalProperties": False,
    },
}
sent: list[httpx2.Request] = []
client = OpenAI(
    base_url=f"{url}/v1",
    api_key=token,
    _strict_response_validation=True,
    http_client=httpx2.Client(timeout=60, event_hooks={"request": [sent.append]}),
)
responses = client.responses


def refused(kind: type[openai.APIStatusError], call: Callable[[], object]) -> openai.APIStatusError:
    """The error that a call raises, which was sent once."""
    before = len(sent)
    try:
        call()
    except kind as error:
        assert len(sent) == before + 1, f"sent {len(sent) - before} times"
        return error
    raise AssertionError(f"not refused with {kind.__name__}")


def ended(response: Any) -> Any:
    """A response in the background, once it is done."""
    while response.status in ("queued", "in_progress"):
        time.sleep(0.1)
        response = responses.retrieve(response.id)
    return response


def told(events: Any) -> str:
    return "".join(e.delta for e in events if e.type == "response.output_text.delta")


said = responses.create(**ASK)
text = said.output_text
assert said.id.startswith("resp_") and text, said
assert said.status in ("completed", "incomplete"), said
print("a response")

assert said.usage is not None and said.usage.output_tokens <= 12, said.usage
assert said.usage.total_tokens == said.usage.input_tokens + said.usage.output_tokens
print("usage with its details")

assert (said.status == "incomplete") == (said.incomplete_details is not None), said
assert responses.create(**{**LONG, "max_output_tokens": 4}).status == "incomplete"
print("a text that meets its length is incomplete")

read = responses.retrieve(said.id)
assert read == said, (read, said)
print("retrieve")

assert responses.create(**{**ASK, "metadata": {"k": "v"}, "user": "u"}).metadata == {"k": "v"}
print("metadata, and members that mean nothing here")

for tier, used in (("priority", "priority"), ("flex", "flex"), ("auto", "default")):
    assert responses.create(**ASK, service_tier=tier).service_tier == used, tier
print("service tiers")

parts = [{"role": "user", "content": [{"type": "input_text", "text": "The function returns"}]}]
assert responses.create(**{**ASK, "input": parts}).output_text == text
print("items with text in parts")

briefed = responses.create(**ASK, instructions="Be brief.")
assert briefed.instructions == "Be brief." and briefed.output_text
print("instructions")

seeded = {**ASK, "temperature": 1, "extra_body": {"seed": 7}}
assert responses.create(**seeded).output_text == responses.create(**seeded).output_text
print("a seed, as other servers of the API take it")

scored = responses.create(**ASK, top_logprobs=2, include=["message.output_text.logprobs"])
logprobs = scored.output[0].content[0].logprobs
assert logprobs and len(logprobs[0].top_logprobs) == 2, scored
print("log-probabilities")

events = list(responses.create(**ASK, stream=True))
assert told(events) == text, events
print("a stream")

assert [event.sequence_number for event in events] == list(range(len(events)))
assert [event.type for event in events][:3] == [
    "response.created",
    "response.queued",
    "response.in_progress",
]
assert events[-1].type in ("response.completed", "response.incomplete")
print("its events are numbered, the first says that it was made")

assert events[-1].response == responses.retrieve(events[0].response.id)
print("the last event is the response as it is read later")

with responses.stream(**ASK) as followed:
    for _ in followed:
        pass
    if events[-1].type == "response.completed":
        assert followed.get_final_response().output_text == text
print("a stream, put together by the client")


class Found(BaseModel):
    word: str


schema = {**TOOL["parameters"]}
form = {"type": "json_schema", "name": "found", "schema": schema, "strict": True}
held = responses.create(**{**ASK, "max_output_tokens": 64}, text={"format": form})
assert held.output_text in ('{"word":"one"}', '{"word":"two"}'), held
assert held.text is not None and held.text.format is not None, held
print("JSON by a schema")

parsed = responses.parse(**{**ASK, "max_output_tokens": 200}, text_format=Found)
assert parsed.output_parsed is None or isinstance(parsed.output_parsed, Found), parsed
print("JSON by a class, read by the client")

assert responses.create(
    **{**ASK, "max_output_tokens": 40}, text={"format": {"type": "json_object"}}
).output_text.startswith("{")
print("JSON of any kind")

CALL: dict[str, Any] = {**ASK, "max_output_tokens": 64, "parallel_tool_calls": False}
called = responses.create(**CALL, tools=[TOOL], tool_choice="required")
[call] = called.output
assert call.type == "function_call" and call.name == "look_up", called
assert call.arguments in ('{"word":"one"}', '{"word":"two"}'), call
print("a call of a tool")

named = {"type": "function", "name": "look_up"}
assert responses.create(**CALL, tools=[TOOL], tool_choice=named).output[0].name == "look_up"
print("a call of the tool that is named")

only = {"type": "allowed_tools", "mode": "required", "tools": [named]}
other = {**TOOL, "name": "other"}
assert responses.create(**CALL, tools=[other, TOOL], tool_choice=only).output[0].name == "look_up"
print("a call of the tools that are allowed")

streamed = list(responses.create(**CALL, tools=[TOOL], tool_choice="required", stream=True))
arguments = "".join(e.delta for e in streamed if e.type == "response.function_call_arguments.delta")
assert arguments == streamed[-1].response.output[0].arguments, streamed
[added] = [e.item for e in streamed if e.type == "response.output_item.added"]
assert (added.name, added.arguments) == ("look_up", ""), added
assert added.id == streamed[-1].response.output[0].id
print("a streamed call of a tool")

answered = {"type": "function_call_output", "call_id": call.call_id, "output": "a number"}
after = responses.create(**{**ASK, "input": [answered]}, previous_response_id=called.id)
assert after.previous_response_id == called.id and after.output, after
print("the call's result, behind the response that made it")

again = responses.create(**{**ASK, "input": [*parts, *called.output, answered]}, tools=[TOOL])
assert again.output, again
print("the same, sent as items")

items = responses.input_items.list(after.id)
assert [item.type for item in items] == ["function_call_output", "function_call", "message"], items
assert items.data[1].id == call.id
print("input items, the newest first")

assert len(list(responses.input_items.list(after.id, limit=1))) == 3
assert [i.id for i in responses.input_items.list(after.id, order="asc")] == [
    item.id for item in reversed(items.data)
]
print("input items in pages, and the oldest first")

first = responses.create(**ASK, instructions="Be brief.")
second = responses.create(**{**ASK, "input": "More"}, previous_response_id=first.id)
assert [item.type for item in responses.input_items.list(second.id)] == ["message"] * 3
assert second.instructions is None
print("a response that goes on with another")

queued = responses.create(**ASK, background=True)
assert queued.status in ("queued", "in_progress") and queued.background, queued
assert ended(queued).output_text == text
print("in the background")

timed = responses.create(**ASK, background=True, background_options={"completion_window": "2h"})
assert ended(timed).output_text == text
print("in the background within a window")

live = responses.create(**LONG, background=True, stream=True)
head = []
for event in live:
    head.append(event)
    if event.type == "response.output_text.delta":
        break
live.close()
response_id, last = head[0].response.id, head[-1].sequence_number
tail = list(responses.retrieve(response_id, stream=True, starting_after=last))
whole = list(responses.retrieve(response_id, stream=True))
assert [*head, *tail] == whole, (len(head), len(tail), len(whole))
print("a stream that is taken up behind an event")

final = ended(responses.retrieve(response_id))
assert told(whole) == final.output_text and whole[-1].response == final
print("all of it is what is stored")

with responses.stream(response_id=response_id, starting_after=last) as resumed:
    assert [event.sequence_number for event in resumed] == [e.sequence_number for e in tail]
print("taken up by the client's own stream")

assert list(responses.retrieve(response_id, stream=True, starting_after=10**6)) == []
print("nothing comes behind the last event")

running = responses.create(**{**LONG, "temperature": 1}, background=True)
stopped = responses.cancel(running.id)
assert stopped.status == "cancelled" and responses.cancel(running.id) == stopped, stopped
assert not list(responses.retrieve(running.id, stream=True))[-1].type.endswith("completed")
print("cancel, twice")

refused(openai.BadRequestError, lambda: responses.cancel(said.id))
print("no cancel of what was waited for")

responses.delete(said.id)
gone = refused(openai.NotFoundError, lambda: responses.retrieve(said.id))
assert gone.code == "response_not_found", gone
print("delete")

lost = refused(
    openai.BadRequestError, lambda: responses.create(**ASK, previous_response_id=said.id)
)
assert lost.code == "previous_response_not_found", lost
print("a predecessor that has gone")

unkept = responses.create(**ASK, store=False)
refused(openai.NotFoundError, lambda: responses.retrieve(unkept.id))
print("a response that is not kept")

refused(openai.NotFoundError, lambda: responses.create(**{**ASK, "model": "nobody"}))
print("no such model")

hosted = refused(
    openai.BadRequestError, lambda: responses.create(**ASK, tools=[{"type": "web_search"}])
)
assert "web_search" in str(hosted), hosted
print("tools of OpenAI's own")

picture = [{"role": "user", "content": [{"type": "input_image", "image_url": "data:,"}]}]
seen = refused(openai.BadRequestError, lambda: responses.create(**{**ASK, "input": picture}))
assert seen.param == "input[0].content[0]", seen
print("pictures")

typo = refused(openai.BadRequestError, lambda: responses.create(**ASK, extra_body={"inputs": 1}))
assert typo.param == "inputs", typo
print("a name that is none")

long = refused(openai.BadRequestError, lambda: responses.create(**{**ASK, "input": "word " * 9000}))
assert long.code == "context_length_exceeded" and "prompt is too long" in str(long).lower(), long
print("a prompt that is too long")

refused(openai.BadRequestError, lambda: responses.create(**{**ASK, "max_output_tokens": 10**6}))
print("more tokens than the model makes")

stranger = client.with_options(api_key="not-a-key")
refused(openai.AuthenticationError, lambda: stranger.responses.create(**ASK))
print("a key that is none")

chat = ChatOpenAI(
    model=MODEL,
    base_url=f"{url}/v1",
    api_key=token,
    temperature=0,
    max_tokens=12,
    use_responses_api=True,
)
assert chat.invoke("The function returns").text == text
print("LangChain")

assert "".join(chunk.text for chunk in chat.stream("The function returns")) == text
print("LangChain, streamed")

longer = chat.model_copy(update={"max_tokens": 64})
tooled = longer.bind_tools([TOOL], tool_choice="look_up", strict=True, parallel_tool_calls=False)
asked = HumanMessage("Look a word up.")
reply = tooled.invoke([asked])
[wanted] = reply.tool_calls
assert wanted["name"] == "look_up" and wanted["args"]["word"] in ("one", "two"), reply
print("LangChain calls a tool")

result = ToolMessage("a number", tool_call_id=wanted["id"])
assert chat.invoke([asked, reply, result]).response_metadata["status"] in (
    "completed",
    "incomplete",
)
print("LangChain sends the tool's result")

chained = chat.invoke("More", previous_response_id=first.id)
assert chained.response_metadata["id"].startswith("resp_"), chained
print("LangChain goes on with a response")
