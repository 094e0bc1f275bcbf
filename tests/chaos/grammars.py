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
from tests.tiny_models import CHAT_TEMPLATE, LLAMA, byte_level_tokenizer, save_causal

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
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "note",
            "parameters": {
                "type": "object",
                "properties": {
                    "kind": {"enum": ["fox", "lazy dog", "naïve café 🎉"]},
                    "legs": {
                        "type": "array",
                        "items": {"type": "integer", "minimum": 0, "maximum": 99},
                        "maxItems": 4,
                    },
                    "why": {"type": "string", "maxLength": 12},
                },
                "required": ["kind", "legs", "why"],
                "additionalProperties": False,
            },
        },
    }
]
ANSWER = (
    r"<think>\n[a-z ]{4,12}\n</think>\n\n[A-Z][a-z]{3,8}[.!]\n"
    r'(<tool_call>\n\{"name": "note", "arguments": \{"why": "[a-zé🎉]{2,9}"\}\}\n</tool_call>\n){1,2}'
)
"""What a model might say that is free to call tools: thoughts, content, calls."""
TEMPLATE = "{% for tool in tools %}{{ tool.function.name }} {% endfor %}" + CHAT_TEMPLATE
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
    """18: seeded JSON, then seeded calls of tools, followed by readers that are cut; kill -9 of the host at
    random tokens.

    Every text and message equals that of the same job undisturbed, what readers have followed adds up to
    each part of the message, and every schema holds.
    """
    tokenizer = byte_level_tokenizer()
    tokenizer.chat_template = TEMPLATE
    folder = save_causal(arena.folder / "model", tokenizer=tokenizer, **LLAMA)
    catalogue = CATALOGUE.format(model=MODEL, path=folder, together=TOGETHER)
    site = await arena.open(catalogue, workers=1)
    kills = arena.size.faults - arena.size.faults // 2
    async with arena.crowd(Mix(0, readers=1.0, cancels=0.0)) as crowd:
        await _compare(arena, crowd, site, "JSON", kills)
        await _compare(arena, crowd, site, "tool calls", arena.size.faults)
    arena.jobs += crowd.accepted


async def _compare(arena: Arena, crowd: Load, site: Site, name: str, kills: int) -> None:
    """The jobs of one kind without and with kills, until there were so many in all."""
    before, seen, cuts = arena.faults, len(arena.history.of(Final)), crowd.cuts
    undisturbed = await _ends(arena, crowd, name, range(arena.size.n))
    disturbed: list[Final] = []
    for first in range(0, arena.size.n, TOGETHER):
        seeds = range(first, min(first + TOGETHER, arena.size.n))
        batch = asyncio.create_task(_ends(arena, crowd, name, seeds))
        for _ in range(KILLS):
            if arena.faults < kills:
                await _kill_at_a_token(arena, site)
        disturbed += await batch
    again = [final for final in arena.history.of(Final)[seen:] if final.attempt > 1]
    pairs = zip(undisturbed, disturbed, strict=True)
    differing = sum((a.text, a.message) != (b.text, b.message) for a, b in pairs)
    invalid = sum(not _valid(final) for final in (*undisturbed, *disturbed))
    hit = arena.faults - before
    arena.note(
        f"{name}: n {arena.size.n}, kills {hit}, jobs begun again {len(again)}, cuts of readers"
        f" {crowd.cuts - cuts}, texts that differ from the undisturbed {differing}, that break"
        f" their schema {invalid}"
    )
    arena.require(not differing, f"{name}: {differing} texts differ from those of undisturbed runs")
    arena.require(not invalid, f"{name}: {invalid} texts break their schema")
    arena.require(again or not hit, f"{name}: no job was hit by a kill")


async def _ends(arena: Arena, crowd: Load, name: str, seeds: range) -> list[Final]:
    gate = asyncio.Semaphore(TOGETHER)

    async def one(seed: int) -> Final:
        key = f"{name}-{arena.draw.getrandbits(64)}-{seed}"
        async with gate:
            final = await crowd.visit(_body(name, seed), key)
        assert final is not None, "these jobs have time"
        arena.require(final.status == "succeeded", f"{name} {seed}: {final.status} {final.code}")
        return final

    return list(await asyncio.gather(*map(one, seeds)))


def _body(name: str, seed: int) -> dict[str, Any]:
    params: dict[str, Any] = {"temperature": 1.0, "seed": seed}
    if name == "JSON":
        params["grammar"] = {"json_schema": SCHEMA}
        return {"model": MODEL, "input": f"Animal {seed}: ", "params": params}
    chat: dict[str, Any] = {"messages": [{"role": "user", "content": f"{seed}?"}], "tools": TOOLS}
    if seed % 2:
        params["grammar"] = {"regex": ANSWER}
    else:
        chat |= {"tool_choice": "required", "parallel_tool_calls": False}
    return {"model": MODEL, "input": chat, "params": params}


async def _kill_at_a_token(arena: Arena, site: Site) -> None:
    """Kill the engine host once the jobs that run have said so many more tokens."""
    name = f"worker-{MODEL}-1"
    await site.serving(1)
    with suppress(Late):
        await until(lambda: site.running(), 10, "jobs run")
    # Where no others come after these jobs, early in their texts: none would be hit after they have ended.
    last = arena.size.n <= TOGETHER
    wanted = _events(site) + arena.draw.randrange(arena.size.n * 8 if last else TOGETHER * 40)
    with suppress(Late):
        # Where the jobs end before, the next ones are hit.
        await until(lambda: _events(site) >= wanted or not site.running(), 30, "tokens are said")
    hosts = site.hosts(name)
    arena.fault("kill -9 host", site.worker_name(1), site.held_by(site.worker_name(1)))
    for host in hosts:
        host.kill()
    await until(partial(_gone, hosts), 60, "the host ends")


def _gone(hosts: list[Any]) -> bool:
    return all(not host.is_running() or host.status() == "zombie" for host in hosts)


def _events(site: Site) -> int:
    """How many events the running jobs have in their logs."""
    redis = cast(Any, site.store.redis)
    return sum(redis.xlen(site.store.keys("log", job)) for job in site.running())


def _valid(final: Final) -> bool:
    try:
        if final.message is None:
            jsonschema.validate(json.loads(final.text or ""), SCHEMA)
            return True
        calls = [call["function"] for call in final.message.get("tool_calls", ())]
        for call in calls:
            arguments = json.loads(call["arguments"])
            if "reasoning_content" not in final.message:
                jsonschema.validate(arguments, TOOLS[0]["function"]["parameters"])
    except (ValueError, jsonschema.ValidationError):
        return False
    return bool(calls)
