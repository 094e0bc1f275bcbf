"""`python -m bench.dialects [--quick]`: what a chat's stream costs the API, natively and in OpenAI's forms.

One API process streams the same chats, in turn, in each form: each reader has a chat of its own, which a
feeder writes as a worker would. It prints processor time an event, and each form's over the native one's of
the same round, in the median.
"""

import argparse
import selectors
import shutil
import socket
import statistics
import sys
import threading
import time
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import msgspec

from bench.command import SCRATCH, parser, run
from bench.engines.workload import sentences
from bench.reporting.table import table
from bench.sse.holding import Api, Failed, api
from bench.sse.result import MODEL
from shared.domain.parts import Content
from shared.domain.records import Append, Claim, Finish
from shared.domain.states import JobState

READERS = 64
EVENTS = 200
"""Of each chat; a word each."""
BEATS = 100
"""Events a second of each chat, which is a fast model's."""
ROUNDS, QUICK_ROUNDS = 12, 5
PATIENCE = 60.0
GOAL = 1.25
MESSAGES = [{"role": "user", "content": "What is a generator?"}]
NO_STORE = "Cache-Control: no-store"
"""Each has a job of its own, though all ask the same."""
FORMS: Mapping[str, tuple[str, dict[str, Any]]] = {
    "native": ("/v1/infer/stream", {"input": {"messages": MESSAGES}}),
    "chat completions": ("/v1/chat/completions", {"messages": MESSAGES, "stream": True}),
    "responses": ("/v1/responses", {"input": MESSAGES[0]["content"], "stream": True}),
}


def main() -> int:
    """0 where chat completions cost what they may."""
    options = _options()
    return run(lambda: _measure(options), Failed)


def _measure(options: argparse.Namespace) -> int:
    scratch = SCRATCH / "dialects"
    shutil.rmtree(scratch, ignore_errors=True)
    rounds = QUICK_ROUNDS if options.quick else ROUNDS
    costs: dict[str, list[float]] = {name: [] for name in FORMS}
    try:
        with api(scratch, f"{{engine: text-generation, path: {scratch}}}") as running:
            for name in FORMS:
                _round(running, *FORMS[name], events=8)
            for _ in range(rounds):
                for name in FORMS:
                    costs[name].append(_round(running, *FORMS[name], events=EVENTS))
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    # Within a round the machine is as busy for all of them.
    ratios = {
        name: statistics.median(c / n for c, n in zip(found, costs["native"], strict=True))
        for name, found in costs.items()
    }
    rows = [
        (
            name,
            f"{statistics.median(found) * 1e6:.1f}",
            f"{ratios[name]:.2f} ×",
            " ".join(f"{c * 1e6:.1f}" for c in found),
        )
        for name, found in costs.items()
    ]
    print(
        f"{READERS} readers, {EVENTS} events each, {BEATS} a second; goal of chat completions: {GOAL} ×\n"
    )
    print(table(("form", "µs an event", "over native", "rounds"), rows))
    return 0 if ratios["chat completions"] <= GOAL else 1


def _round(running: Api, path: str, body: dict[str, Any], events: int) -> float:
    """Seconds of the API's processor an event, from the requests to the ends of the streams."""
    before = running.processor()
    readers = [_ask(running, path, {"model": MODEL, **body}) for _ in range(READERS)]
    claims: list[Claim] = []
    until = time.monotonic() + PATIENCE
    while len(claims) < READERS:
        claims += running.store.claim(MODEL, READERS, "feeder").claims
        if time.monotonic() > until:
            raise Failed(f"{path} made {len(claims)} jobs of {READERS}")
    drained = threading.Thread(target=_drain, args=(readers,))
    drained.start()
    words = " ".join(sentences(4)).split()
    began = time.monotonic()
    for number in range(events):
        time.sleep(max(0.0, began + number / BEATS - time.monotonic()))
        text = f" {words[number % len(words)]}"
        data = msgspec.json.encode({"text": text, "index": number, "parts": [Content(text)]})
        running.store.write(
            [Append(claim.id, claim.attempt, number + 1, "token", data) for claim in claims]
        )
    text = "".join(f" {words[number % len(words)]}" for number in range(events))
    message = {"role": "assistant", "content": text}
    output = msgspec.json.encode({"text": text, "finish_reason": "stop", "message": message})
    usage = b'{"prompt_tokens":8,"completion_tokens":%d}' % events
    running.store.write(
        [
            Finish(claim.id, claim.attempt, JobState.SUCCEEDED, output, b"", usage)
            for claim in claims
        ]
    )
    drained.join(PATIENCE)
    if drained.is_alive():
        raise Failed(f"{path}: the streams did not end")
    return (running.processor() - before) / (READERS * events)


def _ask(running: Api, path: str, body: dict[str, Any]) -> socket.socket:
    address = urlsplit(running.url)
    content = msgspec.json.encode(body)
    lines = [f"POST {path} HTTP/1.1", f"Host: {address.netloc}", "Connection: close", NO_STORE]
    lines += [f"{name}: {value}" for name, value in running.headers.items()]
    lines += ["Content-Type: application/json", f"Content-Length: {len(content)}", "", ""]
    reader = socket.create_connection((address.hostname, address.port), PATIENCE)
    reader.sendall("\r\n".join(lines).encode() + content)
    return reader


def _drain(readers: list[socket.socket]) -> None:
    """Read all streams to their ends."""
    waiting = selectors.DefaultSelector()
    for reader in readers:
        waiting.register(reader, selectors.EVENT_READ)
    while waiting.get_map():
        for found, _ in waiting.select(PATIENCE):
            assert isinstance(found.fileobj, socket.socket)
            if not found.fileobj.recv(65536):
                waiting.unregister(found.fileobj)
                found.fileobj.close()


def _options() -> argparse.Namespace:
    options = parser("bench.dialects", __doc__)
    options.add_argument("--quick", action="store_true", help="fewer rounds, within a minute")
    return options.parse_args()


if __name__ == "__main__":
    sys.exit(main())
