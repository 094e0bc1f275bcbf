"""BentoML: a service of as many workers as `WORKERS`, each of which gathers its own requests. All in memory.

`WORKERS=2 bentoml serve bench.peers.bentoml_echo:Echo`; `POST /echo`, which takes a list and answers one.
"""

import os

import bentoml

SIZE = 32
LATENCY_MS = 1000
"""Above what a request takes under load: what would take longer is turned away, not answered late."""


@bentoml.service(
    workers=int(os.environ.get("WORKERS", "1")), logging={"access": {"enabled": False}}
)
class Echo:
    @bentoml.api(batchable=True, max_batch_size=SIZE, max_latency_ms=LATENCY_MS)  # type: ignore[untyped-decorator]
    def echo(self, prompts: list[str]) -> list[str]:
        return prompts
