"""Workers that make texts in every way there is, and kill -9 of them meanwhile: no text changes by it."""

import random
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from bench.engines.copying import save_copier
from client import Event, Job
from tests.conftest import PATIENCE, eventually
from tests.integration.stack import Stack
from tests.tiny_adapters import save_adapter
from tests.tiny_models import WAYS, byte_level_tokenizer, save_causal

CATALOGUE = """
models:
  copier:
    engine: text-generation
    path: {folder}/copier
    speculation: {{kind: prompt_lookup, longest: 3}}
    {limits}
  adapted: {{base: copier, adapter: {folder}/adapter, {limits}}}
  bad: {{base: copier, adapter: {folder}/copier}}
  stacked: {{engine: text-generation, path: {folder}/stacked, {limits}}}
  static: {{engine: text-generation, path: {folder}/static, {limits}}}
"""
TOKENS = 120
LIMITS = f"limits: {{max_prompt_tokens: 64, max_new_tokens: {TOKENS}}}"
HOSTS = ("copier", "stacked", "static")
"""Entries that have a worker of their own."""
PROMPT = "The quick brown fox jumps over the lazy dog. The quick"
DRAWS: dict[str, dict[str, Any]] = {"greedy": {}, "seeded": {"temperature": 0.9, "seed": 7}}
WITHOUT = {"speculation": False}
KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "packed": ("copier", WITHOUT),
    "look-up": ("copier", {}),
    "LoRA": ("adapted", WITHOUT),
    "stacked": ("stacked", {}),
    "static": ("static", {}),
}
"""How texts are made: the entry, and parameters of its jobs."""

Asked = tuple[str, str]
"""A kind of texts, and how tokens are drawn."""
ASKED: list[Asked] = [(kind, draw) for kind in KINDS for draw in DRAWS]


class Jobs:
    """One job of every kind and draw, and the events of each as they come."""

    def __init__(self, stack: Stack, pool: ThreadPoolExecutor) -> None:
        self.pieces: dict[Asked, list[Event]] = {one: [] for one in ASKED}
        self._stack = stack
        self._runs = {one: pool.submit(self._follow, one) for one in ASKED}

    def pieces_of(self, host: str) -> int:
        """How many pieces have come of the text of the entry that has the fewest."""
        return min(len(self.pieces[one]) for one in ASKED if host in (one[0], KINDS[one[0]][0]))

    def ended(self) -> dict[Asked, Job]:
        return {one: run.result(timeout=120) for one, run in self._runs.items()}

    def streamed(self, one: Asked) -> str:
        return "".join(event.data["text"] for event in self.pieces[one])

    def _follow(self, one: Asked) -> Job:
        kind, draw = one
        model, params = KINDS[kind]
        with self._stack.client() as client:
            job = client.submit(
                model, PROMPT, params={"max_new_tokens": TOKENS} | params | DRAWS[draw]
            )
            for event in job.stream():
                if event.type == "token":
                    self.pieces[one].append(event)
            return job.wait(60)


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory, make_stack: Callable[..., Stack]) -> Stack:
    folder = tmp_path_factory.mktemp("models")
    save_copier(folder / "copier", byte_level_tokenizer(), vocabulary=400)
    save_adapter(folder / "copier", folder / "adapter", target_modules=["o_proj"], lora_alpha=32)
    for way in ("stacked", "static"):
        config, sizes = WAYS[way]
        save_causal(folder / way, config, **sizes | {"max_position_embeddings": 512})
    stack = make_stack(CATALOGUE.format(folder=folder, limits=LIMITS), CACHE_MAX_SIZE="0")
    return stack.serve(*HOSTS, seconds=len(HOSTS) * PATIENCE)


@pytest.fixture(scope="module")
def runs(stack: Stack) -> Iterator[tuple[Jobs, Jobs]]:
    """The jobs undisturbed, and with every worker killed at a random token of its texts."""
    chance = random.Random(5)
    with ThreadPoolExecutor(2 * len(ASKED)) as pool:
        undisturbed = Jobs(stack, pool)
        undisturbed.ended()
        killed = Jobs(stack, pool)
        left = {host: chance.randrange(1, 12) for host in HOSTS}

        def kill_those_due() -> bool:
            for host, pieces in list(left.items()):
                if killed.pieces_of(host) >= pieces:
                    stack.kill(f"worker-{host}-1")
                    stack.worker(host, 2)
                    del left[host]
            return not left

        eventually(kill_those_due, what="every worker is killed")
        killed.ended()
        yield undisturbed, killed


def test_a_worker_of_a_base_serves_its_adapters(stack: Stack) -> None:
    """Doorbells of all come to it, and one engine host serves them."""
    with stack.client() as client:
        models = {model.name: model.raw for model in client.models()}

    assert [models[name]["base"] for name in ("copier", "adapted", "bad")] == [
        None,
        "copier",
        "copier",
    ]
    assert models["adapted"]["workers"][0]["engine"]["adapter_rank"] == 4
    assert models["adapted"]["workers"][0]["engine"]["batching"] == "packed"
    hosts = {models[name]["workers"][0]["engine_pid"] for name in ("copier", "adapted")}
    assert len(hosts) == 1
    assert models["bad"]["state"] == "failed"
    assert "has no adapter_config.json" in models["bad"]["workers"][0]["detail"]


@pytest.mark.parametrize("one", ASKED, ids=" ".join)
def test_a_text_whose_worker_is_killed_is_the_undisturbed_one(
    runs: tuple[Jobs, Jobs], one: Asked
) -> None:
    undisturbed, killed = (jobs.ended()[one] for jobs in runs)
    text = undisturbed.output["text"]

    assert undisturbed.status == "succeeded"
    assert killed.status == "succeeded" and killed.attempt > 1
    assert killed.output["text"] == text
    assert [jobs.streamed(one) for jobs in runs] == [text, text]


def test_each_kind_of_text_is_made_in_its_own_way(stack: Stack, runs: tuple[Jobs, Jobs]) -> None:
    """Whether a draft is tried depends on times measured at load; in test_crashed_texts.py it does not."""
    ended = runs[0].ended()
    texts = {one: job.output["text"] for one, job in ended.items()}
    drafted = {kind for (kind, _), job in ended.items() if job.usage.get("drafted_tokens")}
    with stack.client() as client:
        ways = {
            (model.name, worker["engine"]["speculation"]["kind"])
            for model in client.models()
            for worker in model.raw["workers"]
            if worker["engine"]
        }

    for draw in DRAWS:
        assert texts["packed", draw] == texts["look-up", draw] != texts["LoRA", draw]
    assert drafted <= {"look-up"}
    assert ways == {
        ("copier", "prompt_lookup"),
        ("adapted", "prompt_lookup"),
        ("bad", "prompt_lookup"),
        ("stacked", "none"),
        ("static", "none"),
    }
