"""`python -m bench.batches [--lines N]`: what a batch of N embeddings takes of Redis and of its process.

The steps are those of `truthgpt batches`, on a Redis and a directory of their own. Jobs are ended at once by
this process itself, with vectors of a usual length, so that what is measured is the batch and no model.
"""

import argparse
import random
import resource
import secrets
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from api.app import create_app
from api.batches.steps import Steps
from api.services import Services, of
from bench.command import parser, publish, run, today
from bench.reporting.machine import Machine, look_around, machine_lines
from shared.domain.batches import ENDED, WINDOW_SECONDS, Batch, new_batch_id
from shared.domain.files import File, new_file_id
from shared.domain.records import Finish
from shared.domain.states import JobState
from shared.embedded_redis import EmbeddedRedis
from shared.settings import load_settings
from shared.store.files import Room

MODEL, TENANT, DIMENSIONS = "encoder", "default", 384
MOST_BYTES = 400
"""Goal: what a line may take of Redis."""
ROOM = Room(2**50, 2**30, 2**50)
CLAIMED = 128
CATALOGUE = "models: {encoder: {engine: embedding, path: weights, cache: {enabled: false}}}\n"


class Taken(msgspec.Struct, frozen=True):
    """`bytes_a_line`: the most that Redis' used memory grew by at any step, over the number of lines;
    `bytes_after`: what was left of it once the batch had ended. `grown`: what the process' peak of resident
    memory grew by, in bytes.
    """

    date: str
    machine: Machine
    lines: int
    input_bytes: int
    live: int
    bytes_a_line: float
    bytes_after: float
    grown: int
    cpu_ms_a_line: float


def main() -> int:
    options = _options()
    return run(lambda: _measure(options))


def _options() -> argparse.Namespace:
    options = parser("bench.batches", __doc__)
    options.add_argument("--lines", type=int, default=50_000)
    return options.parse_args()


def _measure(options: argparse.Namespace) -> int:
    machine = look_around()
    with tempfile.TemporaryDirectory(prefix="batches-") as name:
        folder = Path(name)
        (folder / "weights").mkdir()
        (folder / "catalog.yaml").write_text(CATALOGUE)
        server = EmbeddedRedis(folder / "redis")
        server.start()
        try:
            settings = load_settings(
                api_token=secrets.token_hex(16),
                config=folder / "catalog.yaml",
                redis_url=server.url,
                state_dir=folder,
            )
            services = of(create_app(settings, ring=lambda _: None))
            result = _run(services, options.lines, machine)
            services.close()
        finally:
            server.stop()
    publish(result, render(result), options.results, f"{result.date}-batches")
    return 0


def _run(services: Services, lines: int, machine: Machine) -> Taken:
    steps = Steps(services, services.settings.batch_jobs)
    output = msgspec.json.encode(
        {
            "embeddings": [[random.uniform(-1, 1) for _ in range(DIMENSIONS)]],
            "dimensions": DIMENSIONS,
        }
    )
    _play(services, steps, 2 * CLAIMED, output)  # So that what is made once counts for no line.
    before, peak = _used(services), _peak()
    began = time.process_time()
    size, most = _play(services, steps, lines, output)
    return Taken(
        date=today(),
        machine=machine,
        lines=lines,
        input_bytes=size,
        live=services.settings.batch_jobs,
        bytes_a_line=(most - before) / lines,
        bytes_after=(_used(services) - before) / lines,
        grown=_peak() - peak,
        cpu_ms_a_line=(time.process_time() - began) * 1000 / lines,
    )


def _play(services: Services, steps: Steps, lines: int, output: bytes) -> tuple[int, int]:
    """Take a batch to its end: the bytes of its input, and the most that Redis used."""
    batch, most = _create(services, lines), 0
    while services.batches.get(batch.id, TENANT).status not in ENDED or steps.step():
        worked = steps.step()
        most = max(most, _used(services))
        claims = services.store.claim(MODEL, CLAIMED, "bench").claims
        ends = [Finish(c.id, c.attempt, JobState.SUCCEEDED, output) for c in claims]
        if ends:
            services.store.write(ends)
        elif not worked:
            time.sleep(0.01)
    return batch.input_bytes, most


def _create(services: Services, lines: int) -> Batch:
    now, file_id, size = int(time.time()), new_file_id(), 0
    writer = services.storage.create(f"files/{file_id}")
    for line in _lines(lines):
        size += len(line)
        writer.write(line)
    writer.publish()
    file = File(file_id, TENANT, "batch", "input.jsonl", size, now, now + WINDOW_SECONDS)
    services.files.create(file, ROOM)
    batch = Batch(
        id=new_batch_id(),
        tenant=TENANT,
        key_id="default",
        endpoint="/v1/embeddings",
        input_file=file_id,
        input_bytes=size,
        created=now,
        expires=now + WINDOW_SECONDS,
    )
    services.batches.create(batch, most_open=10)
    return batch


def _lines(number: int) -> Iterator[bytes]:
    for each in range(number):
        body = {"model": MODEL, "input": f"text {each} " + "of some words " * 10}
        line = {
            "custom_id": f"line {each}",
            "method": "POST",
            "url": "/v1/embeddings",
            "body": body,
        }
        yield msgspec.json.encode(line) + b"\n"


def _used(services: Services) -> int:
    said: Any = services.store.redis.info("memory")
    return int(said["used_memory"])


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def render(result: Taken) -> str:
    """The report, as Markdown."""
    return "\n".join(
        [
            f"# A batch of {result.lines:,} lines, {result.date}",
            "",
            machine_lines(result.machine),
            "",
            f"Embeddings of {DIMENSIONS} dimensions, an input of {result.input_bytes:,} bytes, at most "
            f"{result.live} lines under way.",
            "",
            "| figure | reached | goal |",
            "|---|---|---|",
            f"| Redis memory a line at the most, bytes | {result.bytes_a_line:,.0f} | ≤ {MOST_BYTES} |",
            f"| the same once it has ended, bytes | {result.bytes_after:,.1f} | |",
            f"| growth of the process' peak of memory, MiB | {result.grown / 2**20:,.1f} | |",
            f"| processor time of the process a line, jobs ended in it, ms | {result.cpu_ms_a_line:.2f} | |",
            "",
        ]
    )


if __name__ == "__main__":
    sys.exit(main())
