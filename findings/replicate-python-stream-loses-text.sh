#!/usr/bin/env bash
# The stream of Replicate's Python client loses text and breaks on text:
# - it splits a stream into lines where Python's str.splitlines does and not only where the standard of server-sent
#   events says, so that what follows U+2028, U+0085, a form feed and the like within a line is dropped without a word;
# - a piece of text that begins with "https:" or "data:" becomes a FileOutput, also with use_file_output=False, and str()
#   of its event, which is how the documentation prints a stream, raises TypeError.
# seen 2026-11-30, Python 3.11.7, replicate 1.0.7, httpx 0.28.1:
# seen sent 'before\u2028behind': got 'before'
# seen sent 'before\x85behind': got 'before'
# seen sent 'before\x0cbehind': got 'before'
# seen sent 'see https://a.example': got 'see https://a.example'
# seen sent 'https://a.example': str() raises TypeError
# seen sent 'data: x': str() raises TypeError
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT; cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check replicate==1.0.7 httpx==0.28.1
cat > seen.py <<'PY'
import httpx
from replicate.client import Client
from replicate.stream import EventSource

TEXTS = ["before\u2028behind", "before\x85behind", "before\x0cbehind", "see https://a.example",
         "https://a.example", "data: x"]


def read(text: str) -> str:
    body = f"id: 1\nevent: output\ndata: {text}\n\nid: 2\nevent: done\ndata: {{}}\n\n"
    headers = {"Content-Type": "text/event-stream"}
    answer = lambda _: httpx.Response(200, headers=headers, content=body.encode())  # noqa: E731
    client = Client("x", transport=httpx.MockTransport(answer))
    with client._client.stream("GET", "https://stream.example/") as response:
        source = EventSource(client, response, use_file_output=False)
        try:
            return "got " + repr("".join(map(str, source)))
        except TypeError:
            return "str() raises TypeError"


seen = []
for text in TEXTS:
    seen.append(read(text))
    print(f"sent {text!a}: {seen[-1]}")
lost, broke = ["got 'before'"] * 3, ["str() raises TypeError"] * 2
raise SystemExit(seen != [*lost, "got 'see https://a.example'", *broke])
PY
venv/bin/python --version
venv/bin/python seen.py
