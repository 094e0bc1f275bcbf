"""A response that is followed while everything under it is killed: `URL TOKEN` as arguments.

It prints the response's id first, and `same` once the text that came is the one that is stored. Whatever
breaks the stream, it is taken up behind the last event that came.
"""

import sys
import time
from typing import Any

import httpx2
import openai
from openai import OpenAI

_, url, token = sys.argv
BROKEN = (openai.APIConnectionError, openai.InternalServerError, httpx2.HTTPError)
ENDS = ("response.completed", "response.failed", "response.incomplete")
SECONDS = 240
client = OpenAI(
    base_url=f"{url}/v1",
    api_key=token,
    _strict_response_validation=True,
    max_retries=0,
    timeout=httpx2.Timeout(60, connect=5),
)
made = client.responses.create(
    model="demo-llama",
    input="The function returns",
    max_output_tokens=480,
    extra_body={"ignore_eos": True, "seed": 7},
    background=True,
)
print(made.id, flush=True)


def again(call: Any, until: float) -> Any:
    """What a call gives once the server is back."""
    while True:
        try:
            return call()
        except BROKEN:
            if time.monotonic() > until:
                raise
            time.sleep(0.2)


seen: list[Any] = []
breaks = 0
until = time.monotonic() + SECONDS
while not (seen and seen[-1].type in ENDS):
    assert time.monotonic() < until, seen[-1:]
    after = {"starting_after": seen[-1].sequence_number} if seen else {}
    try:
        for event in client.responses.retrieve(made.id, stream=True, **after):
            seen.append(event)
    except BROKEN:
        breaks += 1
        time.sleep(0.2)

assert seen[-1].type == "response.incomplete", seen[-1]
stored = again(lambda: client.responses.retrieve(made.id), until)
text = "".join(event.delta for event in seen if event.type == "response.output_text.delta")
assert [event.sequence_number for event in seen] == list(range(len(seen)))
assert text == stored.output_text, (text, stored.output_text)
assert seen[-1].response == stored
assert list(client.responses.retrieve(made.id, stream=True)) == seen
print("same", breaks)
