"""What OpenAI's client and LangChain do about jobs that fail for good: `URL TOKEN` as arguments.

A check prints its name. How often each path was called is in `called.json` at the end.
"""

import asyncio
import json
import sys
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import openai
from langchain_openai import ChatOpenAI
from openai import AsyncOpenAI, OpenAI

_, url, token = sys.argv
CHAT, COMPLETION, RESPONSE = "/v1/chat/completions", "/v1/completions", "/v1/responses"
BELL = "\x07"
at: dict[str, Any] = {"base_url": f"{url}/v1", "api_key": token}
asked: dict[str, Any] = {"model": "demo-llama", "max_completion_tokens": 8}
# Behind this character, and so behind its token, what the model puts out is not a number.
AT_ONCE = {**asked, "messages": [{"role": "user", "content": f"Fail {BELL}"}]}
LATER = {**asked, "messages": [{"role": "user", "content": "Fail"}], "logit_bias": {"196": 100}}
RESPOND: dict[str, Any] = {"model": "demo-llama", "input": f"Fail {BELL}", "max_output_tokens": 8}
called = Counter[str]()


def fails(path: str, call: Callable[[], object]) -> openai.APIError:
    """The error that a call of `path` raises, or its stream."""
    called[path] += 1
    try:
        call()
    except openai.APIError as error:
        return error
    raise AssertionError(f"{path} has not failed")


client = OpenAI(**at)
chats, responses = client.chat.completions, client.responses
failed = fails(CHAT, lambda: chats.create(**AT_ONCE))
assert isinstance(failed, openai.APIStatusError) and failed.status_code == 424, failed
assert failed.code == "engine_error" and failed.type == "server_error", failed
print("a chat")
failed = fails(CHAT, lambda: list(chats.create(**AT_ONCE, stream=True)))
assert failed.code == "engine_error", failed
print("a stream of a chat, before its first token")
failed = fails(CHAT, lambda: list(chats.create(**LATER, stream=True)))
assert failed.code == "engine_error", failed
print("a stream of a chat, behind its first token")
prompt: dict[str, Any] = {"model": "demo-llama", "prompt": BELL, "max_tokens": 4}
fails(COMPLETION, lambda: client.completions.create(**prompt))
fails(COMPLETION, lambda: list(client.completions.create(**prompt, stream=True)))
print("a completion, at once and streamed")
fails(RESPONSE, lambda: responses.create(**RESPOND))
print("a response")
called[RESPONSE] += 1
events = list(responses.create(**RESPOND, stream=True))
assert events[-1].type == "response.failed", events[-1]
assert events[-1].response.error.code == "server_error", events[-1]
print("a stream of a response")
called[RESPONSE] += 1
behind = responses.create(**RESPOND, background=True)
while behind.status in ("queued", "in_progress"):
    behind = responses.retrieve(behind.id)
assert behind.status == "failed" and behind.error is not None, behind
print("a response in the background")


async def concurrently() -> None:
    many = AsyncOpenAI(**at)
    for path, call in (
        (CHAT, many.chat.completions.create(**AT_ONCE)),
        (CHAT, _read(many.chat.completions.create(**AT_ONCE, stream=True))),
        (CHAT, _read(many.chat.completions.create(**LATER, stream=True))),
        (RESPONSE, many.responses.create(**RESPOND)),
    ):
        called[path] += 1
        try:
            await call
        except openai.APIError:
            continue
        raise AssertionError(f"{path} has not failed")
    await many.close()


async def _read(stream: Awaitable[Any]) -> None:
    async for _ in await stream:
        pass


asyncio.run(concurrently())
print("the asynchronous client")
chain = ChatOpenAI(model="demo-llama", max_tokens=8, **at)
fails(CHAT, lambda: chain.invoke(f"Fail {BELL}"))
fails(CHAT, lambda: list(chain.stream(f"Fail {BELL}")))
print("LangChain, at once and streamed")
responding = ChatOpenAI(model="demo-llama", use_responses_api=True, **at)
fails(RESPONSE, lambda: responding.invoke(f"Fail {BELL}"))
print("LangChain by responses")
Path("called.json").write_text(json.dumps(called), "utf-8")
