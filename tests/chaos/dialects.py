"""Responses and batches of OpenAI's API, while whatever works on them is killed: scenarios 19 and 20."""

import asyncio
import json
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from typing import Any, cast

import httpx

from tests.chaos.arena import Arena
from tests.chaos.kills import kill_api, kill_batches, kill_host, kill_redis, kill_worker
from tests.chaos.site import MODEL, Late, Site, until
from tests.integration.stack import TOKEN
from tests.tiny_models import CHAT_TEMPLATE, LLAMA, byte_level_tokenizer, save_causal

TOGETHER = 8
"""Responses that are made side by side."""
KILLS = 4
"""Of each so many: one of each kind, so that no job meets a third crash, which would lawfully end it."""
CUT = 0.02
"""How often a reader hangs up behind an event, and comes back."""
ENDS = ("response.completed", "response.incomplete", "response.failed")
ENDED = ("completed", "failed", "expired", "cancelled")
PATIENCE = 120.0
CATALOGUE = """
models:
  {model}:
    engine: text-generation
    path: {path}
    device: cpu
    threads: 1
    dtype: float32
    batch: {{max_size: {together}}}
    limits: {{max_prompt_tokens: 64, max_new_tokens: 160}}
    cache: {{enabled: false}}
"""


async def responses_taken_up(arena: Arena) -> None:
    """19: responses in the background, each followed by a reader that hangs up now and then, while the host,
    the worker, the API and Redis are killed.

    What a reader was told, over all its connections, is what a stream from the start tells afterwards:
    numbers from 0 without a gap, and deltas that add up to the response. The text is that of an undisturbed
    run.
    """
    site = await _open(arena)
    async with _client(site) as client:
        for first in range(0, arena.size.n, TOGETHER):
            seeds = range(first, min(first + TOGETHER, arena.size.n))
            undisturbed = await asyncio.gather(*(_respond(arena, client, n, "calm") for n in seeds))
            wave = asyncio.gather(*(_respond(arena, client, n, "killed") for n in seeds))
            kinds = (kill_host, kill_worker, kill_api, kill_redis)
            for kill in kinds[:KILLS]:
                if arena.faults < arena.size.faults:
                    await _kill_at_a_token(arena, site, kill)
            disturbed = await wave
            differing = sum(a != b for a, b in zip(undisturbed, disturbed, strict=True))
            arena.require(not differing, f"{differing} texts differ from those of undisturbed runs")
            arena.jobs += 2 * len(seeds)
        arena.require(
            arena.faults == arena.size.faults, "there were too few responses for the faults"
        )


async def batches_answered_once(arena: Arena) -> None:
    """20: a batch of `n` lines, while its own process, the host, the worker, the API and Redis are killed.

    Each `custom_id` has exactly one line in the files, and all are good.
    """
    site = await _open(arena)
    site.start("batches", "batches")
    n, faults = arena.size.n, arena.size.faults
    kinds = (kill_batches, kill_worker, kill_redis, kill_api, kill_host)
    async with _client(site) as client:
        batch_id = await _batch(client, n)
        for number in range(faults):
            wanted = n * (number + 1) // (faults + 2)
            with suppress(Late):
                await _until(partial(_answered, client, batch_id, wanted))
            await kinds[number % len(kinds)](arena, site)
        await _until(lambda: _has_ended(client, batch_id), 600.0)
        ended = await _get(client, f"/v1/batches/{batch_id}")
        files = [ended[name] for name in ("output_file_id", "error_file_id") if ended[name]]
        lines = [line for file in files for line in await _lines(client, file)]
    arena.jobs = n
    found = Counter(line["custom_id"] for line in lines)
    lost = sum(f"line {number}" not in found for number in range(n))
    twice = sum(count > 1 for count in found.values())
    bad = sum((line["response"] or {}).get("status_code") != 200 for line in lines)
    arena.note(
        f"lines without an answer {lost}, with two {twice}, answered otherwise than 200 {bad}"
    )
    arena.require(ended["status"] == "completed", f"the batch ended as {ended['status']}")
    arena.require(not (lost or twice or bad), "not every line has one good answer")
    counts = {"total": n, "completed": n, "failed": 0}
    arena.require(ended["request_counts"] == counts, f"counts: {ended['request_counts']}")


async def _open(arena: Arena) -> Site:
    tokenizer = byte_level_tokenizer()
    tokenizer.chat_template = CHAT_TEMPLATE
    folder = save_causal(arena.folder / "model", tokenizer=tokenizer, **LLAMA)
    catalogue = CATALOGUE.format(model=MODEL, path=folder, together=TOGETHER)
    return await arena.open(catalogue, workers=1)


# -- responses


async def _respond(arena: Arena, client: httpx.AsyncClient, seed: int, turn: str) -> str:
    """Have a response made and follow it to its end. Returns its text."""
    asked = {"model": MODEL, "input": f"Tale {seed}: ", "background": True, "seed": seed}
    # With the turn in it, a request that is sent again joins no job of another turn.
    asked |= {"max_output_tokens": 150, "ignore_eos": True, "metadata": {"turn": turn}}
    made = await _ask(client, "POST", "/v1/responses", json=asked)
    path = f"/v1/responses/{made.json()['id']}"
    told = await _follow(arena, client, path)
    again = await _follow(arena, client, path, whole=True)
    arena.require(told == again, f"{path}: what was told is not what is told from the start")
    numbers = [event["sequence_number"] for event in told]
    arena.require(numbers == list(range(len(told))), f"{path}: numbers {numbers}")
    deltas = (event["delta"] for event in told if event["type"] == "response.output_text.delta")
    final = await _get(client, path)
    text: str = final["output"][0]["content"][0]["text"] if final["output"] else ""
    arena.require("".join(deltas) == text, f"{path}: the deltas are not the text")
    arena.require(final["status"] == "incomplete", f"{path} ended as {final['status']}")
    return text


async def _follow(
    arena: Arena, client: httpx.AsyncClient, path: str, *, whole: bool = False
) -> list[dict[str, Any]]:
    """The events of a response, taken up behind the last one wherever a connection ended."""
    seen: list[dict[str, Any]] = []
    deadline = asyncio.get_running_loop().time() + PATIENCE
    while not (seen and seen[-1]["type"] in ENDS):
        if asyncio.get_running_loop().time() > deadline:
            raise Late(f"{path} is not told to its end")
        after = {"starting_after": seen[-1]["sequence_number"]} if seen else {}
        with suppress(httpx.TransportError):
            async with client.stream("GET", path, params={"stream": "true", **after}) as answer:
                if answer.status_code != 200:
                    await asyncio.sleep(0.1)
                    continue
                async for line in answer.aiter_lines():
                    if not line.startswith("data: "):
                        continue
                    event = json.loads(line[6:])
                    if "sequence_number" not in event or event["type"] == "error":
                        raise AssertionError(f"{path}: {line}")
                    seen.append(event)
                    if not whole and arena.draw.random() < CUT:
                        break
        await asyncio.sleep(0.05)
    return seen


# -- batches


async def _batch(client: httpx.AsyncClient, lines: int) -> str:
    content = b"".join(
        json.dumps(
            {
                "custom_id": f"line {number}",
                "method": "POST",
                "url": "/v1/responses",
                "body": {"model": MODEL, "input": f"{number}?", "max_output_tokens": 8},
            }
        ).encode()
        + b"\n"
        for number in range(lines)
    )
    file = await _ask(
        client, "POST", "/v1/files", data={"purpose": "batch"}, files={"file": content}
    )
    asked = {"input_file_id": file.json()["id"], "endpoint": "/v1/responses"}
    made = await _ask(client, "POST", "/v1/batches", json={**asked, "completion_window": "24h"})
    return str(made.json()["id"])


async def _answered(client: httpx.AsyncClient, batch_id: str, least: int) -> bool:
    batch = await _get(client, f"/v1/batches/{batch_id}")
    return int(batch["request_counts"]["completed"]) >= least or batch["status"] in ENDED


async def _has_ended(client: httpx.AsyncClient, batch_id: str) -> bool:
    return (await _get(client, f"/v1/batches/{batch_id}"))["status"] in ENDED


async def _lines(client: httpx.AsyncClient, file_id: str) -> list[dict[str, Any]]:
    content = await _ask(client, "GET", f"/v1/files/{file_id}/content")
    return [json.loads(line) for line in content.text.splitlines()]


async def _kill_at_a_token(arena: Arena, site: Site, kill: Callable[[Arena, Site], Any]) -> None:
    """Kill once the responses that run have said so many more tokens; where they end before, at once."""
    with suppress(Late):
        await until(lambda: site.running(), 20, "responses run")
        wanted = _events(site) + arena.draw.randrange(TOGETHER * 10)
        await until(lambda: _events(site) >= wanted or not site.running(), 20, "tokens are said")
    await kill(arena, site)


def _events(site: Site) -> int:
    """How many events the running jobs have in their logs."""
    redis = cast(Any, site.store.redis)
    return sum(redis.xlen(site.store.keys("log", job)) for job in site.running())


# -- calls that are tried again while the server is away


def _client(site: Site) -> httpx.AsyncClient:
    headers = {"Authorization": f"Bearer {TOKEN}"}
    return httpx.AsyncClient(base_url=site.url, headers=headers, timeout=30)


async def _get(client: httpx.AsyncClient, path: str) -> dict[str, Any]:
    found: dict[str, Any] = (await _ask(client, "GET", path)).json()
    return found


async def _ask(client: httpx.AsyncClient, method: str, path: str, **sent: Any) -> httpx.Response:
    """An answer below 500, which is not to be a refusal. A second try says that it is one."""
    deadline, again = asyncio.get_running_loop().time() + PATIENCE, 0
    while True:
        with suppress(httpx.TransportError):
            headers = {"x-stainless-retry-count": str(again)}
            answer = await client.request(method, path, headers=headers, **sent)
            if answer.status_code < 500:
                assert answer.is_success, f"{method} {path}: {answer.text}"
                return answer
        if asyncio.get_running_loop().time() > deadline:
            raise Late(f"{method} {path} has no answer")
        again += 1
        await asyncio.sleep(0.1)


async def _until(condition: Callable[[], Awaitable[bool]], seconds: float = PATIENCE) -> None:
    """Wait until an asked condition holds. Raises `Late`."""
    deadline = asyncio.get_running_loop().time() + seconds
    while not await condition():
        if asyncio.get_running_loop().time() > deadline:
            raise Late("the batch does not go on")
        await asyncio.sleep(0.1)
