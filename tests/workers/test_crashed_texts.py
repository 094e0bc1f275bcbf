"""Texts whose engine host is killed: each is, to the letter, what it is when nobody dies."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from shared.domain.models.catalog import Batch, Limits, PromptLookup
from shared.domain.records import NewJob, new_job_id
from shared.store.jobs import JobStore
from tests.conftest import eventually
from tests.tiny_models import LLAMA, save_causal, text_spec
from tests.workers.bench import MODEL, Bench
from workers.engines.base import Work
from workers.engines.registry import build

PROMPT = "The quick brown fox jumps over the lazy dog. The quick"
JOBS: list[dict[str, Any]] = [
    {"n": 4, "temperature": 0.9},
    {"n": 3, "temperature": 1.1, "stop": ["th", "e q"], "min_tokens": 24, "ignore_eos": True},
    {
        "n": 2,
        "temperature": 0.8,
        "speculation": False,
        "bad_words": ["a", " the"],
        "logit_bias": {"70": 3.5},
    },
    {"n": 2, "skip_special_tokens": False},
    {"n": 3, "temperature": 1.0, "speculation": False},
]
"""Some of which want no drafts, where there are any."""
LONGEST = 40

WINDOWS = LLAMA | {"head_dim": 16, "num_local_experts": 4, "sliding_window": 12}
"""Windows in a ring that texts go around, and sinks."""


@pytest.fixture
def bench(store: JobStore, tmp_path: Path) -> Iterator[tuple[Bench, Any]]:
    spec = text_spec(
        save_causal(tmp_path, "GptOssConfig", **WINDOWS),
        engine="tests.workers.drafting:Drafting",
        speculation=PromptLookup(ngram=1),
        batch=Batch(max_size=8, token_budget=64),
        limits=Limits(max_prompt_tokens=96, max_new_tokens=LONGEST, run_timeout=120),
    ).model_copy(update={"name": MODEL})
    running = Bench(store, spec=spec)
    yield running, spec
    running.stop()


@pytest.mark.timeout(300)
def test_each_text_of_a_killed_job_is_that_of_an_undisturbed_one(bench: tuple[Bench, Any]) -> None:
    running, spec = bench
    undisturbed = build(spec)
    undisturbed.load()
    store = running.store
    jobs = [_submit(running, params, seed) for seed, params in enumerate(JOBS)]

    eventually(lambda: _said(store, jobs[0]) >= 30, 60, "a part is streamed")
    host = running.runtime.executor.engine.pid
    assert host is not None
    os.kill(host, signal.SIGKILL)

    accepted = 0
    for seed, (job_id, params) in enumerate(zip(jobs, JOBS, strict=True)):
        ended = running.ended(job_id, 120)
        output: Any = ended.output
        undisturbed.admit(Work("x", PROMPT, {"max_new_tokens": LONGEST} | params, seed))
        outcomes = []
        while undisturbed.pending():
            outcomes += undisturbed.step().outcomes
        assert output == outcomes[0].output  # type: ignore[union-attr]
        streamed = store.streamed(job_id)
        texts = [streamed.text, *(prefix.text for prefix in streamed.further)]
        assert texts == [choice["text"] for choice in output["choices"]]
        assert store.get(job_id).fields["attempt"] == "2"
        assert ended.usage is not None
        accepted += ended.usage.accepted_tokens or 0
    assert accepted > 0


def _submit(bench: Bench, params: dict[str, Any], seed: int) -> str:
    request = {
        "content": PROMPT,
        "params": {"max_new_tokens": LONGEST} | params,
        "seed": seed,
    }
    job = NewJob(new_job_id(), MODEL, "t", msgspec.json.encode(request))
    if bench.store.create(job, max_queued=1000).ring:
        bench.ring()
    return job.id


def _said(store: JobStore, job_id: str) -> int:
    """How many tokens of all its texts."""
    told = store.streamed(job_id)
    return len(told.token_ids) + sum(len(prefix.token_ids) for prefix in told.further)
