"""What OpenAI's client does where the answer of each first try is lost on its way: `URL TOKEN` as arguments.

A check prints its name. How many jobs were to be made is in `jobs.json` at the end.
"""

import json
import sys
from pathlib import Path
from typing import Any

from openai import OpenAI

_, url, token = sys.argv
client = OpenAI(base_url=f"{url}/v1", api_key=token)
# As hot as may be: only a retry that joins the job of its first try is told what that one was.
HOT: dict[str, Any] = {"model": "demo-llama", "temperature": 2}
ASK = [{"role": "user", "content": "Say something"}]

said = client.chat.completions.create(**HOT, messages=ASK, max_completion_tokens=12)
assert said.choices[0].message.content is not None, said
print("a chat")
chunks = list(
    client.chat.completions.create(
        **HOT,
        messages=ASK,
        max_completion_tokens=12,
        stream=True,
        stream_options={"include_usage": True},
    )
)
assert chunks[-1].usage is not None, chunks
print("a stream of a chat")
assert client.completions.create(**HOT, prompt="Say", max_tokens=4).choices
print("a completion")
assert len(client.embeddings.create(model="all-minilm", input=["one"]).data) == 1
print("embeddings")
kept = client.responses.create(**HOT, input="Say something", max_output_tokens=12)
assert client.responses.retrieve(kept.id).output_text == kept.output_text
print("a response")
behind = client.responses.create(**HOT, input="Say more", max_output_tokens=12, background=True)
assert behind.id.startswith("resp_"), behind
print("a response in the background")
Path("jobs.json").write_text(json.dumps(6), "utf-8")
