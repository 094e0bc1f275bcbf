#!/bin/sh
# transformers: a response parser streams all that a model says and keeps the last stretch of it in the message.
#
# Between two regions (thoughts, calls of tools) the text belongs to the implicit field, mostly `content`. Each stretch
# is streamed as chunks, but when it closes it replaces what the field had. So of an answer that says something,
# calls a tool and says something more, the message has the end alone, and a reader that has joined the chunks has
# another text than the message. `join` is no way out: only a field with `repeats` may have it, and a call that comes
# after the text leaves a stretch of blanks behind, which replaces the text too.
#
# seen (transformers 5.23.0):
#   streamed: 'Let me look. It rains.'
#   message: 'It rains.'
#   a newline after the call: ''
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet transformers==5.23.0
"$folder/venv/bin/python" - <<'PY'
from transformers.utils.chat_parsing import ResponseParser

CALL = '<tool_call>{"name": "look", "arguments": {}}</tool_call>'
TEMPLATE = {
    "start_anchor": "assistant:",
    "fields": {
        "tool_calls": {"open": "<tool_call>", "close": "</tool_call>", "repeats": True, "content": "json"},
        "content": {"content": "text"},
    },
}


def read(text):
    parser = ResponseParser(TEMPLATE, prefix="")
    events = parser.feed(text)
    message, more = parser.finalize()
    chunks = [e["text"] for e in events + more if e["type"] == "region_chunk" and e["field"] == "content"]
    return "".join(chunks), message.get("content", "")


streamed, content = read(f"Let me look.{CALL} It rains.")
print(f"streamed: {streamed!r}")
print(f"message: {content!r}")
blank = read(f"Let me look.{CALL}\n")[1]
print(f"a newline after the call: {blank!r}")
raise SystemExit(not (streamed == "Let me look. It rains." and content == "It rains." and blank == ""))
PY
