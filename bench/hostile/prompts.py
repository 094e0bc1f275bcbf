"""Eight prompts of 2 MB for a model of 512 tokens, beside a stream of somebody else's."""

import threading
import time
from itertools import pairwise
from pathlib import Path

import httpx
import msgspec

from bench.hostile.row import Figure
from bench.hostile.served import Server, served

TITLE = "eight 2 MB prompts"
CATALOGUE = "models:\n  demo: {engine: text-generation, path: %s/models/demo-llama, threads: 1}\n"
"""One thread: where other programs want the processor as well, two wait for each other at every layer."""
HUGE = "The function returns a list of names. " * 53_000
"""2,014,000 bytes: the body is just below the limit of 2 MiB."""
BODY = msgspec.json.encode({"model": "demo", "prompt": HUGE})
TOKENS = 400
ATTACKERS = 8
HEAD_START = 0.3
"""Seconds for which the stream has the model for itself."""


def measure(checkout: Path) -> list[Figure]:
    """The largest gap between two tokens of the stream: alone, and beside the attack."""
    with served(checkout, CATALOGUE % checkout) as server:
        _largest_gap(server, tokens=20)
        quiet = _largest_gap(server)
        attack = Attack(server)
        busy = _largest_gap(server, attack)
        attack.over()
    return [
        Figure(TITLE, "largest gap of a stream alone", quiet * 1000, "ms"),
        Figure(TITLE, "largest gap beside them", busy * 1000, "ms"),
        Figure(TITLE, "moved by", (busy - quiet) * 1000, "ms"),
        Figure(TITLE, "slowest of their answers", max(attack.seconds, default=0.0) * 1000, "ms"),
        Figure(TITLE, "answered 422", attack.statuses.count(422), "of 8"),
    ]


class Attack:
    """The prompts, sent at once by a thread each, `HEAD_START` after it is begun."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._threads = [threading.Thread(target=self._send) for _ in range(ATTACKERS)]
        self._timer = threading.Timer(HEAD_START, self._start)
        self.statuses: list[int] = []
        self.seconds: list[float] = []

    def begin(self) -> None:
        self._timer.start()

    def _start(self) -> None:
        for thread in self._threads:
            thread.start()

    def over(self) -> None:
        self._timer.join()
        for thread in self._threads:
            thread.join()

    def _send(self) -> None:
        began = time.monotonic()
        answer = httpx.post(
            f"{self._server.url}/v1/infer",
            content=BODY,
            headers={**self._server.headers, "Content-Type": "application/json"},
            timeout=300,
            trust_env=False,
        )
        self.statuses.append(answer.status_code)
        self.seconds.append(time.monotonic() - began)


def _largest_gap(server: Server, attack: Attack | None = None, tokens: int = TOKENS) -> float:
    """Seconds between two tokens of one stream, the most of all."""
    params = {"max_new_tokens": tokens, "temperature": 1.0, "seed": 1}
    body = {"model": "demo", "prompt": "The function returns", "params": params}
    moments: list[float] = []
    with server.http.stream(
        "POST", "/v1/infer/stream", json=body, headers={"Cache-Control": "no-store"}
    ) as answer:
        for line in answer.iter_lines():
            if line.startswith("event: token"):
                moments.append(time.monotonic())
                if attack is not None and len(moments) == 1:
                    attack.begin()
    return max(after - before for before, after in pairwise(moments))
