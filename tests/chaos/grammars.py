"""Texts that follow a grammar, from an engine host that is killed while it makes them: scenario 18."""

import asyncio
import json
from contextlib import suppress
from functools import partial
from typing import Any, cast

import jsonschema

from tests.chaos.arena import Arena
from tests.chaos.history import Final
from tests.chaos.load import Load, Mix
from tests.chaos.site import MODEL, Late, Site, until
from tests.tiny_models import LLAMA, save_causal

TOGETHER = 8
"""Jobs that run side by side."""
KILLS = 2
"""Of each host that runs so many; a third one would end a job as `worker_crashed`, lawfully."""
SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "minLength": 4, "maxLength": 16},
        "kind": {"enum": ["fox", "lazy dog", "naïve café 🎉"]},
        "legs": {"type": "integer", "minimum": 0, "maximum": 9999},
        "seen": {"type": "array", "items": {"type": "boolean"}, "minItems": 2, "maxItems": 6},
        "note": {"type": "string", "pattern": "^[a-z]{3,12}(-[0-9]{2})?$"},
    },
    "required": ["name", "kind", "legs", "seen", "note"],
    "additionalProperties": False,
}
CATALOGUE = """
models:
  {model}:
    engine: text-generation
    path: {path}
    device: cpu
    threads: 1
    dtype: float32
    batch: {{max_size: {together}}}
    limits: {{max_prompt_tokens: 64, max_new_tokens: 192}}
    cache: {{enabled: false}}
"""


async def held_texts(arena: Arena) -> None:
    """18: seeded JSON, followed by readers that are cut; kill -9 of the host at random tokens.

    Every text equals that of the same job undisturbed, and the schema holds for it.
    """
    folder = save_causal(arena.folder / "model", **LLAMA)
    catalogue = CATALOGUE.format(model=MODEL, path=folder, together=TOGETHER)
    site = await arena.open(catalogue, workers=1)
    async with arena.crowd(Mix(0, readers=1.0, cancels=0.0)) as crowd:
        undisturbed = await _texts(arena, crowd, "undisturbed", range(arena.size.n))
        disturbed: list[str] = []
        for first in range(0, arena.size.n, TOGETHER):
            seeds = range(first, min(first + TOGETHER, arena.size.n))
            batch = asyncio.create_task(_texts(arena, crowd, "disturbed", seeds))
            for _ in range(KILLS):
                if arena.faults < arena.size.faults:
                    await _kill_at_a_token(arena, site)
            disturbed += await batch
        again = [final for final in arena.history.of(Final) if final.attempt > 1]
    arena.jobs += crowd.accepted
    differing = sum(one != other for one, other in zip(undisturbed, disturbed, strict=True))
    invalid = sum(not _valid(text) for text in (*undisturbed, *disturbed))
    arena.note(
        f"n {arena.size.n}, kills {arena.faults}, jobs that were begun again {len(again)},"
        f" texts that differ from the undisturbed {differing}, texts that break the schema {invalid}"
    )
    arena.require(not differing, f"{differing} texts differ from those of undisturbed runs")
    arena.require(not invalid, f"{invalid} texts break the schema")
    arena.require(again or not arena.faults, "no job was hit by a kill")


async def _texts(arena: Arena, crowd: Load, name: str, seeds: range) -> list[str]:
    gate = asyncio.Semaphore(TOGETHER)

    async def one(seed: int) -> str:
        params = {"grammar": {"json_schema": SCHEMA}, "temperature": 1.0, "seed": seed}
        body = {"model": MODEL, "input": f"Animal {seed}: ", "params": params}
        async with gate:
            final = await crowd.visit(body, f"{name}-{arena.draw.getrandbits(64)}-{seed}")
        assert final is not None, "these jobs have time"
        arena.require(final.status == "succeeded", f"{name} {seed}: {final.status} {final.code}")
        return final.text or ""

    return list(await asyncio.gather(*map(one, seeds)))


async def _kill_at_a_token(arena: Arena, site: Site) -> None:
    """Kill the engine host once the jobs that run have said so many more tokens."""
    name = f"worker-{MODEL}-1"
    await site.serving(1)
    with suppress(Late):
        await until(lambda: site.running(), 10, "jobs run")
    wanted = _events(site) + arena.draw.randrange(TOGETHER * 40)
    with suppress(Late):
        # Where the jobs end before, the next ones are hit.
        await until(lambda: _events(site) >= wanted or not site.running(), 30, "tokens are said")
    hosts = site.hosts(name)
    arena.fault("kill -9 host", site.worker_name(1), site.held_by(site.worker_name(1)))
    for host in hosts:
        host.kill()
    await until(partial(_gone, hosts), 10, "the host ends")


def _gone(hosts: list[Any]) -> bool:
    return all(not host.is_running() or host.status() == "zombie" for host in hosts)


def _events(site: Site) -> int:
    """How many events the running jobs have in their logs."""
    redis = cast(Any, site.store.redis)
    return sum(redis.xlen(site.store.keys("log", job)) for job in site.running())


def _valid(text: str) -> bool:
    try:
        jsonschema.validate(json.loads(text), SCHEMA)
    except (ValueError, jsonschema.ValidationError):
        return False
    return True
