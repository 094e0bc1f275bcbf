"""The main job on real models, over real sockets and processes."""

import base64
import math
import random
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
from jsonschema import Draft202012Validator

from client import text_of
from client.sse import Parser
from tests.conftest import eventually
from tests.integration.stack import TOKEN, Stack
from tests.workers.engines.pipeline.test_engine import image

PROMPTS = (
    "The function returns",
    "An exception is raised when",
    "A class definition",
    "The for statement is used to",
    "Modules can be",
)
HEADERS = {"Authorization": f"Bearer {TOKEN}"}


def generate(stack: Stack, number: int) -> None:
    """Submit, stream, compare."""
    with stack.client() as client:
        job = client.submit(
            "demo-llama",
            PROMPTS[number % len(PROMPTS)],
            params={"max_new_tokens": 8 + number % 24, "temperature": 0.8, "seed": number},
        )
        text = text_of(job.stream())
        ended = job.wait(60)
        assert ended.status == "succeeded", ended.error
        assert text == ended.output["text"] and text
        assert ended.usage["completion_tokens"] <= 8 + number % 24


def embed(stack: Stack, number: int) -> None:
    with stack.client() as client:
        job = client.infer("all-minilm", f"Sentence number {number} about queues.")
        assert job.output["dimensions"] == 384
        [vector] = job.output["embeddings"]
        assert math.isclose(sum(x * x for x in vector), 1.0, rel_tol=1e-3)


def test_many_jobs_over_both_models_at_64_at_once(real: Stack) -> None:
    with ThreadPoolExecutor(64) as pool:
        runs = [
            pool.submit(generate if number % 2 else embed, real, number) for number in range(80)
        ]
        faults = [fault for run in runs if (fault := run.exception(timeout=120))]
    assert faults == []


def read_with_cuts(url: str, cuts: list[int]) -> tuple[str, int]:
    """Read a stream as bytes, cutting the connection after each of `cuts` bytes, then to its end."""
    events: list[Any] = []
    last, connections = "", 0
    for cut in [*cuts, 10**9]:
        connections += 1
        headers = HEADERS | ({"Last-Event-ID": last} if last else {})
        parser, seen = Parser(), 0
        with httpx.stream("GET", url, headers=headers, timeout=30) as response:
            if response.status_code == 204:
                break
            assert response.status_code == 200, response.read()
            for chunk in response.iter_raw(16):
                seen += len(chunk)
                for event in parser.feed(chunk):
                    events.append(event)
                    last = event.id
                if seen >= cut:
                    break
        if events and events[-1].event == "done":
            break
    ids = [event.id for event in events]
    assert len(ids) == len(set(ids)), "an event came twice"
    parts = [
        httpx.Response(200, text=event.data).json() for event in events if event.event == "token"
    ]
    return "".join(part["text"] for part in parts), connections


def test_streams_cut_five_times_at_random_lose_and_repeat_nothing(real: Stack) -> None:
    draw = random.Random(7)

    def one(number: int) -> int:
        with real.client() as client:
            job = client.submit(
                "demo-llama",
                PROMPTS[number % len(PROMPTS)],
                params={"max_new_tokens": 48, "temperature": 1.0, "seed": number},
            )
            cuts = [draw.randrange(1, 700) for _ in range(5)]
            text, connections = read_with_cuts(f"{real.url}/v1/jobs/{job.id}/events", cuts)
            assert text.encode() == job.wait(60).output["text"].encode()
            return connections

    with ThreadPoolExecutor(12) as pool:
        connections = list(pool.map(one, range(12)))
    assert sum(connections) > 24, "the cuts did not cut"


def test_greedy_text_is_the_same_alone_and_in_a_batch_of_16(real: Stack) -> None:
    params = {"max_new_tokens": 48, "temperature": 0.0}
    with real.client() as client:
        alone = {p: client.infer("demo-llama", p, params=params).output for p in PROMPTS}
        jobs = [
            client.submit("demo-llama", PROMPTS[n % len(PROMPTS)], params=params) for n in range(16)
        ]
        ended = [job.wait(60) for job in jobs]
    assert max(job.usage["batch_size"] for job in ended) > 1
    for number, job in enumerate(ended):
        assert job.output == alone[PROMPTS[number % len(PROMPTS)]]


def test_a_job_of_many_texts_answers_in_order(real: Stack) -> None:
    texts = ["a queue of jobs", "the cat sat on the mat", "jobs waiting in a queue"]
    with real.client() as client:
        vectors = client.infer("all-minilm", input=texts).output["embeddings"]
    near = sum(a * b for a, b in zip(vectors[0], vectors[2], strict=True))
    far = sum(a * b for a, b in zip(vectors[0], vectors[1], strict=True))
    assert near > far + 0.2


def test_a_prompt_that_is_too_long_is_refused_with_both_numbers(real: Stack) -> None:
    response = httpx.post(
        f"{real.url}/v1/infer",
        headers=HEADERS,
        json={"model": "demo-llama", "prompt": "word " * 2000},
        timeout=30,
    )
    assert response.status_code == 422
    assert response.json()["code"] == "prompt_too_long" and "512" in response.json()["detail"]


def test_a_worker_that_is_killed_loses_nothing(real: Stack) -> None:
    """kill -9 with jobs in flight: all end `succeeded` elsewhere, without a seam in any stream."""
    real.worker("demo-llama", 2)

    def one(number: int) -> tuple[str, Any]:
        with real.client() as client:
            job = client.submit(
                "demo-llama",
                PROMPTS[number % len(PROMPTS)],
                params={"max_new_tokens": 160, "temperature": 1.0, "seed": number},
            )
            return text_of(job.stream()), job.wait(60)

    with ThreadPoolExecutor(10) as pool, real.client() as client:
        runs = [pool.submit(one, number) for number in range(10)]
        eventually(lambda: len([*client.jobs(status="running")]) >= 4, what="both workers run some")
        real.kill("worker-demo-llama-1")
        ended = [run.result(timeout=90) for run in runs]
    for text, job in ended:
        assert job.status == "succeeded", job.error
        assert text == job.output["text"]
    assert max(job.attempt for _, job in ended) > 1, "nothing was in flight when the worker died"


@pytest.mark.parametrize("word", ["demo-llama", "all-minilm"])
def test_models_are_listed_with_their_engines(real: Stack, word: str) -> None:
    with real.client() as client:
        model = next(m for m in client.models() if m.name == word)
    assert model.serving and model.device == "cpu"


def test_a_pipeline_reads_a_file_and_answers_in_the_form_that_its_model_tells(real: Stack) -> None:
    with httpx.Client(base_url=real.url, headers=HEADERS, timeout=60) as http:

        def classified(picture: Any) -> Any:
            body = {"model": "pictures", "input": {"image": picture}, "params": {"top_k": 2}}
            ran = http.post("/v1/infer", json=body).raise_for_status().json()
            return ran["output"]

        content = image(1)["image"]
        sent = {"file": ("fox.png", base64.b64decode(content))}
        file = http.post("/v1/files", data={"purpose": "user_data"}, files=sent).json()
        found = classified({"file": file["id"]})
        model = http.get("/v1/models/pictures").json()

        assert found == classified(content)
        assert found != classified(image(2)["image"])
        Draft202012Validator(model["schemas"]["output"]).validate(found)
        assert model["parts"]["labels"] == [f"LABEL_{n}" for n in range(4)]
        assert {row["label"] for row in found} < set(model["parts"]["labels"])
        assert {"top_k", "function_to_apply"} <= set(model["schemas"]["params"]["properties"])
